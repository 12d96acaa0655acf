"""How often this process made the pod of one attempt.

A pod that goes before it has a node did nothing, so it is made again under its name. Somebody who
deletes each at once would have the next as fast as the API server can answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rtj_api.names import Reason

from rtj_operator.cluster import Key
from rtj_operator.core.budget import FREE_REPEATS, backoff
from rtj_operator.core.observed import Problem


@dataclass(frozen=True)
class _Made:
    pod: str
    count: int
    until: float
    """When it may be made again."""


class Creations:
    """Remembers the newest pod of each job; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._made: dict[Key, _Made] = {}

    def note(self, key: Key, pod: str) -> None:
        """Note that the pod of this name was made just now."""
        known = self._made.get(key)
        count = known.count + 1 if known and known.pod == pod else 1
        until = self._clock() + backoff(count - FREE_REPEATS)
        self._made[key] = _Made(pod, count, until)

    def refusal(self, key: Key, pod: str) -> tuple[Problem, float] | None:
        """Return why a pod that is gone must not be made again yet, and for how many seconds."""
        made = self._made.get(key)
        if made is None or made.pod != pod or self._clock() >= made.until:
            return None
        message = (
            f"Something deleted pod {pod} {made.count} times before it was scheduled. Find out "
            "what did, such as a policy controller or a clean-up script. It is retried with "
            "increasing back-off."
        )
        return Problem(Reason.POD_REJECTED, message), made.until - self._clock()

    def forget(self, key: Key) -> None:
        """Drop what is known of a job."""
        self._made.pop(key, None)
