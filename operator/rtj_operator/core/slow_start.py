"""A pod that has its node and does not start, though nothing says so but the kubelet's Events.

A Secret that a volume needs, a file server that is away, a network plugin that fails: the container
waits in ContainerCreating as it does while an image is pulled, and its status tells no more. The
kubelet tries for ever, and somebody has to mend something. So its last warning is shown where the
job is read. Nothing else is done: another node is no cure for most of this, and costs no less.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rtj_api.names import Reason

from rtj_operator.core.observed import Pod, Problem

FIRST_LOOK_SECONDS = 30.0
"""A start that takes no longer is not looked into; after that, each time that it has taken twice as
long, since Events cost the API server much, and a thousand pods may be pulling an image."""

OF_THE_SCHEDULER = "FailedScheduling"
LONGEST_WORDS = 600


def problem_of(pod: Pod, events: Iterable[Mapping[str, Any]]) -> Problem | None:
    """Return what the newest warning about the pod says; None without one.

    Args:
        pod: One that has a node, and whose containers have not started.
        events: Its Events of type Warning, as the API server lists them.
    """
    warnings = [event for event in events if event.get("reason") != OF_THE_SCHEDULER]
    if not warnings:
        return None
    newest = max(warnings, key=_last_time)
    said = f"{newest.get('reason')}: {(newest.get('message') or '')[:LONGEST_WORDS]}".rstrip(" .:")
    message = (
        f"Pod {pod.name} is on node {pod.node} and cannot start ({said}). Mend that; the job then "
        "goes on by itself. It counts against no budget."
    )
    return Problem(Reason.CONTAINER_NOT_STARTED, message)


def _last_time(event: Mapping[str, Any]) -> str:
    """Return when it was seen last; all are in UTC, so they compare as text."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or ""
    )
