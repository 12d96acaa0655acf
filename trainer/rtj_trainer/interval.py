"""Finds out how often to commit, where `spec.checkpoint.auto` gives a bound on the cost instead.

A commit costs the pause in which it is taken, and what its writing slows the steps beside it down.
Both are measured, and the training after a commit pays for it: the next one comes when the cost is
the allowed share of the time since. That is the shortest interval within the bound, so a kill loses
as little as the bound permits; and it follows a volume that becomes slower or faster at once. The
bound and the two parts of the cost are those of CheckFreq (Mohan et al., FAST 2021), which profiles
them before it trains; here no time is set aside for that.

All times are given by the caller, in seconds of a clock that only goes forwards.
"""

SHORTEST_SECONDS = 10.0
"""Even if commits cost nothing: other jobs write to the volume too, and each commit is told of."""
PATIENCE = 3
"""So many intervals after one that is still being written, another is due, which must be said."""


class AutoInterval:
    """Measures steps and commits, and gives the time from the beginning of one to the next.

    Args:
        max_overhead: The cost of commits may be this share of the training between them.
    """

    def __init__(self, max_overhead: float) -> None:
        self._bound = max_overhead
        self.seconds = SHORTEST_SECONDS
        self.message = "no commit was measured yet"
        self._first = True
        self._quiet_steps = 0.0
        self._quiet_seconds = 0.0
        self._busy_steps = 0
        self._busy_seconds = 0.0
        self._slowdown: float | None = None

    def stepped(self, seconds: float, writing: bool) -> None:
        """Note how long a step took, and whether a commit was being written when it began."""
        if self._first:  # It compiles.
            self._first = False
        elif writing:
            self._busy_steps += 1
            self._busy_seconds += seconds
        else:
            self._quiet_steps += 1
            self._quiet_seconds += seconds

    def wrote(self, pause: float, writing: float) -> None:
        """Note what a commit cost, once it is durable or has failed.

        Args:
            pause: How long training stood still for it.
            writing: How long it was written beside training.
        """
        slowdown = self._smooth(self._measured_slowdown())
        cost = pause + max(slowdown, 0.0)
        # Nothing is begun while something is being written, so that takes an interval at least.
        self.seconds = max(cost + cost / self._bound, writing, SHORTEST_SECONDS)
        self.message = (
            f"a commit stops training for {pause:.3g} s, slows it down by {max(slowdown, 0.0):.3g} "
            f"s and is written in {writing:.3g} s; allowed are {self._bound:.0%}, and an interval "
            f"of at least {SHORTEST_SECONDS:g} s"
        )

    def _measured_slowdown(self) -> float:
        """Return the time that the steps beside the writing took longer than those without."""
        slowdown = 0.0
        if self._quiet_steps and self._busy_steps:
            usual = self._quiet_seconds / self._quiet_steps
            slowdown = self._busy_seconds - self._busy_steps * usual
        self._busy_steps, self._busy_seconds = 0, 0.0
        # Half of what is known: steps may become slower or faster for other reasons.
        self._quiet_steps /= 2
        self._quiet_seconds /= 2
        return slowdown

    def _smooth(self, slowdown: float) -> float:
        """Return the mean with what was before: the steps differ for other reasons, both ways."""
        before = slowdown if self._slowdown is None else self._slowdown
        self._slowdown = (before + slowdown) / 2
        return self._slowdown
