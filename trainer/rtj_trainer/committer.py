"""Decides when to commit, takes the state between two steps, and has it written beside training.

Everything that a commit holds is taken between two steps: the values of the variables, the saved
position, the ledger's hash. A thread then writes it, so a step waits only for the taking. At most
one commit is being written: the next one waits for it. That makes `everySteps` a bound on what a
kill can cost. `everySeconds` says how much work is worth a commit, so on a slow volume a commit
that is due by it alone is put off instead, and training does not wait.
"""

import contextlib
import errno
import logging
import os
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from rtj_api.checkpoint import DEFAULT_EVERY_SECONDS, CheckpointPolicy
from rtj_api.heartbeat import BestCommit, CommitInterval, CommitRef
from rtj_api.restore import MAX_COMMITS_SHOWN

from rtj_trainer.commits.best import BestCommits, steps_of
from rtj_trainer.commits.layout import TEMPORARY_PREFIX, CommitId, JobDirectory
from rtj_trainer.commits.manifest import Manifest, Written
from rtj_trainer.commits.retention import delete_old_commits
from rtj_trainer.commits.writer import write_commit
from rtj_trainer.interval import PATIENCE, AutoInterval
from rtj_trainer.ledger import LedgerWriter
from rtj_trainer.position import Position
from rtj_trainer.progress import Progress
from rtj_trainer.signals import StopRequest

_SAME_INTERVAL = 0.2
"""A change of the interval by less than this share is not worth telling."""
_NICENESS = 5
"""Of the thread that writes, beyond the process's: a step gets a core three times as often."""

log = logging.getLogger(__name__)


class CommitFailedError(Exception):
    """A commit could not be written; the volume is full or broken, and holds nothing of it."""

    def __init__(self, step: int, error: OSError) -> None:
        super().__init__(f"commit at step {step}: {error}")
        self.step = step
        self.why = explain(error)


class Snapshot(Protocol):
    """What a commit needs of `rtj_trainer.state.Snapshot`."""

    def write(self, folder: Path) -> Written:
        """Write all variables."""


class State(Protocol):
    """What a commit needs of `rtj_trainer.state.TrainingState`."""

    def capture(self) -> Snapshot:
        """Return all variables as they are now."""


class Listener(Protocol):
    """Who is told of commits, as `rtj_trainer.heartbeat.Heart` is."""

    def taken(self) -> None:
        """Note that the commit that is now begun holds all training until now."""

    def committed(self, commit: CommitRef, commits: list[str]) -> None:
        """Note that it is durable, in the thread that wrote it.

        Args:
            commit: The commit.
            commits: Names of the newest commits that are there, newest first.
        """

    def kept(self, best: list[BestCommit]) -> None:
        """Note which commits are kept for their results, best first."""

    def commits_every(self, interval: CommitInterval) -> None:
        """Note how often there will be a commit from now on."""


@dataclass(kw_only=True)
class Committer:
    """Makes the commits of one attempt."""

    job: JobDirectory
    attempt: int
    policy: CheckpointPolicy
    """When to commit, and how many to keep."""
    state: State
    position: Position
    """The place in the data, saved with the variables."""
    ledger: LedgerWriter
    """Made durable before each commit."""
    constant: dict[str, Any]
    """The manifest's fields that no step changes."""
    last: CommitId | None
    """Newest durable commit; at first the one that the attempt started from."""
    stop: StopRequest
    """Once it is made, no commit is deleted that was there before."""
    listener: Listener
    _tried_step: int = field(init=False)
    _tried_time: float = field(init=False)
    _spared: int = field(init=False, default=0)
    """How many commits became durable since the stop was asked for."""
    _writing: "Future[None] | None" = field(init=False, default=None)
    _auto: AutoInterval | None = field(init=False, default=None)
    _best: BestCommits = field(init=False)
    _begun: float = field(init=False, default=0.0)
    """When the writing of the newest commit began."""
    _pause: float = field(init=False, default=0.0)
    """How long training stood still for it."""
    _ended: float = field(init=False, default=0.0)
    """When the newest commit was durable, or had failed."""
    _told_seconds: float = field(init=False, default=0.0)
    _writer: ThreadPoolExecutor = field(
        init=False, default_factory=lambda: ThreadPoolExecutor(1, "commit", _give_way)
    )

    def __post_init__(self) -> None:
        self._tried_step = self.last.step if self.last else 0
        self._tried_time = time.monotonic()
        self._best = BestCommits(self.job, self.attempt, self.policy.keep_best)
        self.listener.kept(self._best.commits())
        if self.policy.auto:
            self._auto = AutoInterval(self.policy.auto.max_overhead_percent / 100)
            self._tell_interval(self._auto)

    def due(self, step: int) -> bool:
        """Return whether the policy wants a commit after this step."""
        return self._due_by_steps(step) or self._due_by_seconds(step)

    def is_best(self, progress: Progress) -> bool:
        """Return whether the epoch that has just ended is to be kept for its results.

        If that cannot be told, it is: a commit too many costs nothing but time.
        """
        try:
            return self._best.improved_by(progress.results)
        except OSError as error:
            log.warning("the best commits could not be found: %s", error)
            return True

    def stepped(self, seconds: float) -> None:
        """Note how long the step took that is counted now."""
        if self._auto:
            self._auto.stepped(seconds, self._writing is not None)

    def _due_by_steps(self, step: int) -> bool:
        every_steps = self.policy.every_steps
        return every_steps is not None and step - self._tried_step >= every_steps

    def _due_by_seconds(self, step: int) -> bool:
        every_seconds: float | None = self.policy.every_seconds
        if self._auto:
            if self._writing and self._writing.done():
                return False  # What it cost is known once it is settled.
            every_seconds = self._auto.seconds * (PATIENCE if self._writing else 1)
        elif every_seconds is None and self.policy.every_steps is None:
            every_seconds = DEFAULT_EVERY_SECONDS
        if every_seconds is None or step <= self._tried_step:
            return False
        return time.monotonic() - self._tried_time >= every_seconds

    def puts_off(self, step: int) -> bool:
        """Return whether a commit that is due is put off, since another is being written."""
        writing = self._writing is not None and not self._writing.done()
        return writing and not self._due_by_steps(step)

    @property
    def tried_step(self) -> int:
        """Step of the newest commit that was begun, or that the attempt started from."""
        return self._tried_step

    def covers(self, step: int) -> bool:
        """Return whether the newest durable commit holds this step already."""
        return self.last is not None and self.last.step == step

    def begin(self, progress: Progress, complete: bool = False) -> None:
        """Take the state after the last step, and begin to write it.

        The commit before must have been settled.

        Raises:
            CommitFailedError: the position could not be saved.
        """
        self._tried_step, self._tried_time = progress.step, time.monotonic()
        epoch = progress.epoch_ended and not complete
        commit_id = CommitId(progress.step, self.attempt, final=complete, epoch=epoch)
        manifest = Manifest(
            step=progress.step,
            epoch=progress.epoch,
            step_in_epoch=progress.step_in_epoch,
            samples=progress.samples,
            attempt=self.attempt,
            parent=str(self.last) if self.last else None,
            time=datetime.now(UTC),
            epoch_size=self.position.epoch_size or progress.epoch_size,
            ledger_hash=self.ledger.rolling_hash,
            state_sha256="",
            complete=complete,
            epoch_ended=progress.epoch_ended,
            stopped_early=progress.stopped_early,
            altered_at_end=progress.altered_at_end,
            results=progress.results,
            **self.constant,
        )
        position = self.job.commits / f"{TEMPORARY_PREFIX}{commit_id}-position"
        try:
            position.mkdir()
            self.position.save(position)
        except OSError as error:
            shutil.rmtree(position, ignore_errors=True)
            raise CommitFailedError(progress.step, error) from error
        snapshot = self.state.capture()
        self.listener.taken()
        self._writing = self._writer.submit(self._write, commit_id, manifest, snapshot, position)
        self._begun = time.monotonic()

    def paused(self, seconds: float) -> None:
        """Note how long training stood still for the commit that was just begun."""
        self._pause = seconds

    def settle(self, wait: bool = False) -> None:
        """Return once nothing is being written, or at once if it still is and `wait` is False.

        Raises:
            SupersededError: a newer attempt exists; nothing was committed.
            CommitFailedError: nothing was committed.
        """
        if self._writing is None or not (wait or self._writing.done()):
            return
        writing, self._writing = self._writing, None
        try:
            writing.result()
        finally:
            if self._auto:
                self._auto.wrote(self._pause, self._ended - self._begun)
                self._tell_interval(self._auto)

    def _tell_interval(self, auto: AutoInterval) -> None:
        """Tell how often there will be a commit, if that is not much the same as before."""
        if abs(auto.seconds - self._told_seconds) <= _SAME_INTERVAL * self._told_seconds:
            return
        self._told_seconds = auto.seconds
        log.info("a commit every %.1f s: %s", auto.seconds, auto.message)
        interval = CommitInterval(seconds=round(auto.seconds, 3), message=auto.message)
        self.listener.commits_every(interval)

    def commit(self, progress: Progress, complete: bool = False) -> None:
        """Commit the state after the last step, and return once it is durable.

        Raises:
            SupersededError: a newer attempt exists; nothing was committed.
            CommitFailedError: nothing was committed.
        """
        self.begin(progress, complete)
        self.settle(wait=True)

    def _write(
        self, commit_id: CommitId, manifest: Manifest, snapshot: Snapshot, position: Path
    ) -> None:
        """Make a commit durable; all of this runs beside training."""

        def write_state(folder: Path) -> Manifest:
            written = snapshot.write(folder)
            for path in position.iterdir():
                path.rename(folder / path.name)
            known = {"state_sha256": written.state_sha256, "files": written.files}
            return manifest.model_copy(update=known)

        began = time.monotonic()
        try:
            self.ledger.flush()
            whole = write_commit(self.job, commit_id, write_state)
        except OSError as error:
            raise CommitFailedError(commit_id.step, error) from error
        finally:
            shutil.rmtree(position, ignore_errors=True)
            self._ended = time.monotonic()
        self.last = commit_id
        size = sum(record.size for record in whole.files.values())
        log.info("committed %s: %.1f MB in %.2f s", commit_id, size / 1e6, time.monotonic() - began)
        commit = CommitRef(id=str(commit_id), step=commit_id.step, time=manifest.time)
        self.listener.committed(commit, self._prune(commit_id))

    def _prune(self, written: CommitId) -> list[str]:
        """Delete what is too old, after a commit; return the names of the newest that are there.

        A trainer may be stopped because a user wants to go back to the oldest commit of which
        status tells. So once it is asked to stop, no commit takes the place of another: neither
        the one that the stop makes nor the one that was being written then.
        """
        self._spared += self.stop.requested
        try:
            self._delete_others(written)
        except OSError as error:
            log.warning("old commits could not be deleted: %s", error)
        try:
            return self.job.newest_commits(MAX_COMMITS_SHOWN)
        except OSError as error:
            log.warning("the commits could not be listed: %s", error)
            return [str(written)]

    def _delete_others(self, written: CommitId) -> None:
        best = self._best.commits(self._spared)
        if self.policy.keep_best:
            self.listener.kept(best[: self.policy.keep_best.count])
        for commit_id in delete_old_commits(
            self.job,
            self.attempt,
            self.policy.keep + self._spared,
            self.policy.keep_every_steps,
            steps_of(best),
            written,
        ):
            log.debug("deleted commit %s", commit_id)


def _give_way() -> None:
    """Let training have the cores first: writing takes more than a second of CPU for each gigabyte.

    On Linux a thread has a niceness of its own. While training waits for a commit, the cores are
    idle, and the thread has all that it needs.
    """
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)


def explain(error: OSError) -> str:
    """Return what is wrong with the volume, for a user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return f"the volume is full ({error}); free space or enlarge the claim"
    return f"the volume cannot be written ({error})"
