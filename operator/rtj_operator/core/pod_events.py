"""Which warnings among a pod's Events still stand: nobody takes one back when it is over.

A kubelet tries again at least every two minutes, and tells of it at least every five, its limit for
one pod. What is over is told by a later Event, if at all. Times are compared only of Events that
the same component wrote.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

Event = Mapping[str, Any]

ATTACH_FAILED, ATTACHED = "FailedAttachVolume", "SuccessfulAttachVolume"
BEGUN = ("Pulling", "Pulled", "Created", "Started")
"""What a kubelet says of a pod whose volumes are mounted, and whose network is set up."""

OF_THE_SCHEDULER = "FailedScheduling"

_VOLUME = re.compile(r'volume "([^"]+)"')


def standing(events: Iterable[Event]) -> list[Event]:
    """Return the warnings about a pod that has a node, less those that are known to be over.

    Args:
        events: All its Events, as the API server lists them.
    """
    told = list(events)
    warnings = [
        event
        for event in told
        if event.get("type") == "Warning" and event.get("reason") != OF_THE_SCHEDULER
    ]
    return [warning for warning in warnings if not any(_ends(warning, other) for other in told)]


def message_of(event: Event) -> str:
    """Return its words."""
    return event.get("message") or ""


def last_time(event: Event) -> str:
    """Return when it was seen last; all are in UTC, so they compare as text."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or ""
    )


def _ends(warning: Event, other: Event) -> bool:
    """Whether the other Event says that what the warning is about is over."""
    if warning.get("reason") == ATTACH_FAILED:
        # Some are said only once. What has been attached stays so as long as the pod is there.
        attached = other.get("reason") == ATTACHED and _volume(other) == _volume(warning)
        return attached or other.get("reason") in BEGUN
    return other.get("reason") in BEGUN and last_time(other) >= last_time(warning)


def _volume(event: Event) -> str | None:
    found = _VOLUME.search(message_of(event))
    return found.group(1) if found else None
