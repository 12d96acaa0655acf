"""Tells the cluster how the attempt is, every few seconds and at once at each turn.

The beat is sent by a thread of its own, so it goes on during a long step or commit, and a step
never waits for the API server. An API server that cannot be reached stops nothing: what keeps two
trainers apart is the fence on the volume.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rtj_api.heartbeat import (
    BestCommit,
    CommitInterval,
    CommitRef,
    FinalRecord,
    Heartbeat,
    StackDump,
    TrainerPhase,
)
from rtj_api.names import MAX_MESSAGE_LENGTH, ExitCode, Reason
from rtj_api.time_spent import TrainerSeconds

from rtj_trainer.errors import SupersededError
from rtj_trainer.lease import ApiError, Lease
from rtj_trainer.progress import Progress
from rtj_trainer.stacks import dump_to_log
from rtj_trainer.stopwatch import Speed, Spending, Stopwatch

_LAST_BEAT_TRIES = 3

log = logging.getLogger(__name__)


class Heart:
    """Collects what is to be told, and tells it.

    Args:
        first: The first beat.
        lease: Where to tell; None outside of a cluster.
        interval_seconds: Longest time between two beats.
    """

    def __init__(
        self, first: Heartbeat, lease: Lease | None = None, interval_seconds: float = 5.0
    ) -> None:
        self._beat = first
        self._lease = lease
        self._interval = interval_seconds
        self._dump: Callable[[str], str | None] = dump_to_log
        self._progress: Progress | None = None
        self._stopwatch = Stopwatch()
        self._speed: Speed | None = None
        self._superseded: SupersededError | None = None
        self._reachable = True
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        if self._lease:
            self._thread.start()

    def report(self, **changes: Any) -> None:
        """Change fields of the heartbeat, and send it at once.

        The phase says what time is spent on from now on.
        """
        if "phase" in changes:
            self._stopwatch.enter_phase(changes["phase"])
        with self._lock:
            self._beat = self._beat.model_copy(update=changes)
        self._changed.set()

    def warn(self, reason: Reason, message: str) -> None:
        """Tell what a user should know, although training goes on."""
        log.warning(message)
        told = message[:MAX_MESSAGE_LENGTH]
        self.report(warning=FinalRecord(exit_code=ExitCode.COMPLETED, reason=reason, message=told))

    def taken(self) -> None:
        """Note that the commit that is now begun holds all training until now."""
        self._stopwatch.taken()

    def committed(self, commit: CommitRef, commits: list[str]) -> None:
        """Tell that it is durable, and the names of the newest commits that are there."""
        self._stopwatch.committed()
        self.report(commit=commit, commits=commits, warning=None)

    def kept(self, best: list[BestCommit]) -> None:
        """Tell which commits are kept for their results."""
        self.report(best_commits=best)

    def commits_every(self, interval: CommitInterval) -> None:
        """Tell how often there will be a commit from now on."""
        self.report(commit_interval=interval)

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Tell that the data is read again up to the position; training begins after it."""
        self._stopwatch.enter(Spending.REPLAYING)
        yield
        self.report(phase=TrainerPhase.TRAINING)

    def spent(self) -> TrainerSeconds:
        """Return where the time of this attempt went until now."""
        return self._stopwatch.read()

    def follow(self, progress: Progress) -> None:
        """Read the position from here at each beat from now on."""
        self._progress = progress
        self._speed = Speed(self._interval, progress.step)

    def dump_with(self, dump: Callable[[str], str | None]) -> None:
        """Write stacks with this from now on; it is given a standstill, and returns the path."""
        self._dump = dump

    def check_superseded(self) -> None:
        """Raise if a newer attempt is known to hold the Lease.

        Raises:
            SupersededError: one does.
        """
        if self._superseded:
            raise self._superseded

    def finish(self, final: FinalRecord) -> None:
        """Send the last beat, with what became of the attempt; a superseded one is silent."""
        self.report(phase=TrainerPhase.FINISHED, final=final, steps_per_second=None)
        self._stopped.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()
        for _ in range(_LAST_BEAT_TRIES):
            if self._lease is None or self._superseded or self._send():
                return
            time.sleep(min(self._interval, 1.0))

    def _run(self) -> None:
        while not self._stopped.is_set() and not self._superseded:
            self._changed.clear()
            self._send()
            self._changed.wait(self._interval)

    def _send(self) -> bool:
        if self._lease is None:
            return False
        try:
            beat = self._current()
            question = self._lease.beat(beat.model_dump_json(by_alias=True, exclude_none=True))
        except SupersededError as error:
            self._superseded = error
            return False
        except Exception as error:  # An odd answer, too: who falls silent is taken for dead.
            if self._reachable:
                unexpected = not isinstance(error, ApiError)
                log.warning(
                    "the heartbeat cannot be sent, training goes on: %s",
                    error,
                    exc_info=unexpected,
                )
            self._reachable = False
            return False
        if not self._reachable:
            log.info("the heartbeat can be sent again")
        self._reachable = True
        if question == beat.standstill:
            self._answer(beat)
        return True

    def _answer(self, beat: Heartbeat) -> None:
        """Say where every thread stands. Of a standstill that is over, nobody needs to know."""
        if beat.stacks is None or beat.stacks.standstill != beat.standstill:
            path = None
            try:
                path = self._dump(beat.standstill)
            except Exception:  # To try it again at each beat would not help.
                log.exception("the stacks cannot be written")
            self.report(stacks=StackDump(standstill=beat.standstill, path=path))

    def _current(self) -> Heartbeat:
        with self._lock:
            beat = self._beat
        changes: dict[str, Any] = {"spent": self._stopwatch.read()}
        if self._progress:
            changes["position"] = self._progress.wire()
        if self._progress and self._speed and beat.final is None:
            speed = self._speed.at(time.monotonic(), self._progress.step)
            changes["steps_per_second"] = speed
        return beat.model_copy(update=changes)
