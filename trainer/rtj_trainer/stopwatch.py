"""Where the time of this attempt goes, and how fast its steps are, on the monotonic clock."""

import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

from rtj_api.heartbeat import TrainerPhase
from rtj_api.time_spent import TrainerSeconds

SPEED_WINDOW_SECONDS = 300.0
"""Long enough that the commits in it stand for all; short enough to follow a slower disk."""


class Spending(Enum):
    """What a trainer's time is spent on; the values are the fields of `TrainerSeconds`."""

    STARTING = "starting"
    RESTORING = "restoring"
    REPLAYING = "replaying"
    TRAINING = "training"
    SAVING = "saving"


class Stopwatch:
    """Adds up the time of each kind. Safe to read while another thread changes the kind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._totals = dict.fromkeys(Spending, 0.0)
        self._taken = 0.0
        self._committed = 0.0
        self._kind: Spending | None = Spending.STARTING
        self._since = clock()

    def enter(self, kind: Spending | None) -> None:
        """Count from now on as this kind; None stops the watch."""
        with self._lock:
            self._add_up()
            self._kind = kind

    def enter_phase(self, phase: TrainerPhase) -> None:
        """Count as what this phase is spent on; a finished trainer spends no more."""
        finished = phase is TrainerPhase.FINISHED
        self.enter(None if finished else Spending(phase.value.lower()))

    def taken(self) -> None:
        """Note that all training until now is in the state that was taken for a commit."""
        with self._lock:
            self._add_up()
            self._taken = self._totals[Spending.TRAINING]

    def committed(self) -> None:
        """Note that the commit of what was taken last is durable."""
        with self._lock:
            self._committed = self._taken

    def read(self) -> TrainerSeconds:
        """Return the totals until now."""
        with self._lock:
            self._add_up()
            seconds = {kind.value: round(total, 3) for kind, total in self._totals.items()}
            return TrainerSeconds(**seconds, committed=round(self._committed, 3))

    def _add_up(self) -> None:
        now = self._clock()
        if self._kind:
            self._totals[self._kind] += now - self._since
        self._since = now


class Speed:
    """Steps per second over the last five minutes, commits included.

    It begins after the first step, which compiles the model and fills the shuffle buffers.

    Args:
        interval_seconds: Twice the shortest time between two samples.
        step: Where the attempt starts.
    """

    def __init__(self, interval_seconds: float, step: int) -> None:
        self._interval = interval_seconds
        self._first_step = step
        self._samples: deque[tuple[float, int]] = deque()
        self._speed: float | None = None

    def at(self, now: float, step: int) -> float | None:
        """Take a sample, unless the last one is too young; None until there are two."""
        if step == self._first_step:
            return None
        samples = self._samples
        if samples and now - samples[-1][0] < self._interval / 2:
            return self._speed
        samples.append((now, step))
        while now - samples[0][0] > SPEED_WINDOW_SECONDS:
            samples.popleft()
        began, first = samples[0]
        if now > began:
            self._speed = round((step - first) / (now - began), 3)
        return self._speed
