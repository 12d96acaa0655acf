"""Says when the next commit is due, and notes what commits cost where that decides about it."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future

from rtj_api.checkpoint import DEFAULT_EVERY_SECONDS, CheckpointPolicy
from rtj_api.heartbeat import CommitInterval

from rtj_trainer.interval import PATIENCE, AutoInterval

_SAME_INTERVAL = 0.2
"""A change of the interval by less than this share is not worth telling."""

log = logging.getLogger(__name__)


class Pace:
    """The policy of one attempt, with the times that it is about.

    Args:
        policy: Says when to commit.
        step: Of the commit that the attempt started from.
        tell: Called with each interval that follows from what commits cost.
    """

    def __init__(
        self, policy: CheckpointPolicy, step: int, tell: Callable[[CommitInterval], None]
    ) -> None:
        self._policy = policy
        self._tell = tell
        self._auto: AutoInterval | None = None
        self.tried_step = step
        """Step of the newest commit that was begun, or that the attempt started from."""
        self._tried_time = time.monotonic()
        self._begun = 0.0
        self._paused = 0.0
        self._ended = 0.0
        self._told_seconds = 0.0
        if policy.auto:
            self._auto = AutoInterval(policy.auto.max_overhead_percent / 100)
            self._tell_interval(self._auto)

    def due(self, step: int, writing: "Future[None] | None") -> bool:
        """Return whether the policy wants a commit after this step.

        Args:
            step: The step.
            writing: The commit that is being written, or was and is not settled yet.
        """
        return self.due_by_steps(step) or self._due_by_seconds(step, writing)

    def due_by_steps(self, step: int) -> bool:
        """Return whether it wants one whatever the time is."""
        every_steps = self._policy.every_steps
        return every_steps is not None and step - self.tried_step >= every_steps

    def _due_by_seconds(self, step: int, writing: "Future[None] | None") -> bool:
        every_seconds: float | None = self._policy.every_seconds
        if self._auto:
            if writing and writing.done():
                return False  # What it cost is known once it is settled.
            every_seconds = self._auto.seconds * (PATIENCE if writing else 1)
        elif every_seconds is None and self._policy.every_steps is None:
            every_seconds = DEFAULT_EVERY_SECONDS
        if every_seconds is None or step <= self.tried_step:
            return False
        return time.monotonic() - self._tried_time >= every_seconds

    def stepped(self, seconds: float, writing: bool) -> None:
        """Note how long the step took that is counted now, and whether a commit was written."""
        if self._auto:
            self._auto.stepped(seconds, writing)

    def tried(self, step: int) -> None:
        """Note that a commit of this step is taken now."""
        self.tried_step, self._tried_time = step, time.monotonic()

    def begun(self) -> None:
        """Note that the writing of it begins."""
        self._begun = time.monotonic()

    def paused(self, seconds: float) -> None:
        """Note how long training stood still for it."""
        self._paused = seconds

    def ended(self) -> None:
        """Note that it is durable, or has failed."""
        self._ended = time.monotonic()

    def settled(self) -> None:
        """Find out what it cost, and so when the next one is due."""
        if self._auto:
            self._auto.wrote(self._paused, self._ended - self._begun)
            self._tell_interval(self._auto)

    def _tell_interval(self, auto: AutoInterval) -> None:
        """Tell how often there will be a commit, if that is not much the same as before."""
        if abs(auto.seconds - self._told_seconds) <= _SAME_INTERVAL * self._told_seconds:
            return
        self._told_seconds = auto.seconds
        log.info("a commit every %.1f s: %s", auto.seconds, auto.message)
        self._tell(CommitInterval(seconds=round(auto.seconds, 3), message=auto.message))
