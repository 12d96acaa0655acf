"""What the API server would not do for a job, and when it is asked again.

That is to make what the job needs, whose problem its condition shows meanwhile, or to delete one of
its pods.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rtj_api.names import Reason

from rtj_operator.cluster import Key
from rtj_operator.core.budget import LONGEST_BACKOFF_SECONDS, backoff
from rtj_operator.core.observed import Problem

CREATION = ""
"""Names the making of what a job needs; a deletion has the uid of what is to go."""

LONGEST_ROW_PAUSE_SECONDS = 2 * LONGEST_BACKOFF_SECONDS
"""Failures further apart are not of one trouble: nothing was asked for in between."""


@dataclass
class _Refusal:
    problem: Problem
    count: int
    until: float


@dataclass
class _Failures:
    first: float
    last: float


class Refusals:
    """Remembers them by job, and by what was asked for; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refused: dict[Key, dict[str, _Refusal]] = {}
        self._failing: dict[Key, dict[str, _Failures]] = {}

    def refused(self, key: Key, problem: Problem, what: str = CREATION) -> float:
        """Note a refusal; return the seconds until it is tried again, ever more of them."""
        of_job = self._refused.setdefault(key, {})
        count = of_job[what].count + 1 if what in of_job else 1
        of_job[what] = _Refusal(problem, count, self._clock() + backoff(count))
        return backoff(count)

    def standing(self, key: Key, what: str = CREATION) -> tuple[Problem, float] | None:
        """Return why it must not be tried yet, and for how many seconds."""
        refusal = self._refused.get(key, {}).get(what)
        if refusal is None or self._clock() >= refusal.until:
            return None
        return refusal.problem, refusal.until - self._clock()

    def name_freed(self, key: Key) -> bool:
        """Note that an object of the job's name has gone; return whether one was in its way."""
        refusal = self._refused.get(key, {}).get(CREATION)
        if refusal is None or refusal.problem.reason is not Reason.POD_NAME_TAKEN:
            return False
        self.over(key)
        return True

    def failed(self, key: Key, what: str = CREATION) -> float:
        """Note that the API server failed to do it; return for how long it has."""
        now, of_job = self._clock(), self._failing.setdefault(key, {})
        failures = of_job.get(what)
        if failures is None or now - failures.last > LONGEST_ROW_PAUSE_SECONDS:
            failures = of_job[what] = _Failures(now, now)
        failures.last = now
        return now - failures.first

    def works(self, key: Key, what: str = CREATION) -> None:
        """Note that it did not fail after all."""
        self._failing.get(key, {}).pop(what, None)

    def over(self, key: Key, what: str = CREATION) -> None:
        """Note that it was done, or that other words ask for it now."""
        self.works(key, what)
        self._refused.get(key, {}).pop(what, None)

    def forget(self, key: Key) -> None:
        """Drop what is known of a job."""
        self._refused.pop(key, None)
        self._failing.pop(key, None)
