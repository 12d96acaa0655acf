"""When a commit is begun, and what is noted of it; the same for every peer of the stage `stall`."""

import time
from collections.abc import Callable

from rtj_bench_trainer.timeline import QUIET, TAIL, Commit, stall

_REST = QUIET + TAIL


class Schedule:
    """Begins a commit once all is quiet after the one before.

    Args:
        commits: How many to measure.
        is_done: Whether the last commit has done all that it does. None if `done` is called.
        warm_up: How many to make before, which are not measured.
    """

    def __init__(
        self, commits: int, is_done: Callable[[], bool] | None = None, warm_up: int = 1
    ) -> None:
        self._left = commits + warm_up
        self._warm_up = warm_up
        self._is_done = is_done
        self._ends: list[float] = []
        self._commits: list[Commit] = []
        self._after: int | None = None
        self._rested = -_REST

    def stepped(self) -> None:
        """Note the end of a step."""
        self._ends.append(time.monotonic())
        self._rested += 1
        if self._after is not None and self._is_done and self._is_done():
            self.done()

    @property
    def due(self) -> bool:
        """Whether a commit is to be begun now."""
        return self._left > 0 and self._after is None and self._rested >= 0

    def begin(self) -> None:
        """Note that a commit is begun after the last step; none is noted that is not needed."""
        if self._left > 0:
            self._left -= 1
            self._after = len(self._ends) - 1

    def done(self) -> None:
        """Note that it has done all that it does; another thread may say so."""
        if self._after is not None:
            self._commits.append(Commit(self._after, time.monotonic()))
            self._rested = -_REST
            self._after = None

    @property
    def finished(self) -> bool:
        """Whether all that is needed is noted."""
        return self._left == 0 and self._after is None and self._rested >= -QUIET

    def stalls(self) -> list[float]:
        """Return what each measured commit cost, in seconds."""
        return [stall(self._ends, commit) for commit in self._commits[self._warm_up :]]
