"""A pod that has its node and does not start, though nothing says so but the kubelet's Events.

A Secret that a volume needs, a file server that is away, a network plugin that fails: the container
waits in ContainerCreating as it does while an image is pulled, and its status tells no more. The
kubelet tries for ever, and somebody has to mend something. So its last warning is shown where the
job is read. Nothing else is done: another node is no cure for most of this, and costs no less.
"""

from collections.abc import Iterable

from rtj_api.names import Reason

from rtj_operator.core.observed import Pod, Problem
from rtj_operator.core.pod_events import Event, last_time, message_of

FIRST_LOOK_SECONDS = 30.0
"""A start that takes no longer is not looked into."""

LONGEST_PAUSE_SECONDS = 300.0
"""Between two looks. The pause is as long as the pod has waited, since Events cost the API server
much, and a thousand pods may be pulling an image; but what has ended must not be told for hours."""

LONGEST_STANDING_SECONDS = 600.0
"""A warning that does not come again for so long is over: twice what a kubelet may be silent."""

LONGEST_WORDS = 600


def pause_after(waited: float) -> float:
    """Return the seconds until the Events of a pod that has waited so long are read again."""
    if waited < FIRST_LOOK_SECONDS <= 2 * waited:
        return FIRST_LOOK_SECONDS - waited
    return min(waited, LONGEST_PAUSE_SECONDS)


def newest(warnings: Iterable[Event]) -> Event | None:
    """Return the warning that was seen last."""
    return max(warnings, key=last_time, default=None)


def problem_of(pod: Pod, warning: Event) -> Problem:
    """Return what the warning says about a pod that has a node, and whose containers wait."""
    said = f"{warning.get('reason')}: {message_of(warning)[:LONGEST_WORDS]}".rstrip(" .:")
    message = (
        f"Pod {pod.name} is on node {pod.node} and cannot start ({said}). Fix that; the job then "
        "goes on by itself. It counts against no budget."
    )
    return Problem(Reason.CONTAINER_NOT_STARTED, message)
