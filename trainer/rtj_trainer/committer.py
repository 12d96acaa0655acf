"""Takes the state between two steps when a commit is due, and has it written beside training.

Everything that a commit holds is taken between two steps: the values of the variables, the saved
position, the ledger's hash. A thread then writes it, so a step waits only for the taking. At most
one commit is being written: the next one waits for it. That makes `everySteps` a bound on what a
kill can cost. `everySeconds` says how much work is worth a commit, so on a slow volume a commit
that is due by it alone is put off instead, and training does not wait.
"""

import contextlib
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

from rtj_api.checkpoint import CheckpointPolicy
from rtj_api.heartbeat import BestCommit, CommitInterval, CommitRef

from rtj_trainer.commits.keeper import Keeper
from rtj_trainer.commits.layout import TEMPORARY_PREFIX, CommitId, JobDirectory
from rtj_trainer.commits.manifest import Manifest, Written
from rtj_trainer.commits.writer import write_commit
from rtj_trainer.files import explain
from rtj_trainer.ledger import LedgerWriter
from rtj_trainer.pace import Pace
from rtj_trainer.position import Position
from rtj_trainer.progress import Progress
from rtj_trainer.signals import StopRequest

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
    pace: Pace = field(init=False)
    """When the next one is due."""
    keeper: Keeper = field(init=False)
    """What stays of the older ones."""
    _writing: "Future[None] | None" = field(init=False, default=None)
    _writer: ThreadPoolExecutor = field(
        init=False, default_factory=lambda: ThreadPoolExecutor(1, "commit", _give_way)
    )

    def __post_init__(self) -> None:
        step = self.last.step if self.last else 0
        self.pace = Pace(self.policy, step, self.listener.commits_every)
        self.keeper = Keeper(self.job, self.attempt, self.policy, self.stop, self.listener.kept)

    def due(self, step: int) -> bool:
        """Return whether the policy wants a commit after this step."""
        return self.pace.due(step, self._writing)

    def stepped(self, seconds: float) -> None:
        """Note how long the step took that is counted now."""
        self.pace.stepped(seconds, self._writing is not None)

    def puts_off(self, step: int) -> bool:
        """Return whether a commit that is due is put off, since another is being written."""
        writing = self._writing is not None and not self._writing.done()
        return writing and not self.pace.due_by_steps(step)

    def covers(self, step: int) -> bool:
        """Return whether the newest durable commit holds this step already."""
        return self.last is not None and self.last.step == step

    def begin(self, progress: Progress, complete: bool = False) -> None:
        """Take the state after the last step, and begin to write it.

        The commit before must have been settled.

        Raises:
            CommitFailedError: the position could not be saved.
        """
        self.pace.tried(progress.step)
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
            self._save_position(position, progress.step)
            snapshot = self.state.capture()
        except BaseException:
            shutil.rmtree(position, ignore_errors=True)
            raise
        self.listener.taken()
        self.pace.begun()
        self._writing = self._writer.submit(self._write, commit_id, manifest, snapshot, position)

    def _save_position(self, folder: Path, step: int) -> None:
        try:
            folder.mkdir()
            self.position.save(folder)
        except OSError as error:
            raise CommitFailedError(step, error) from error

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
            self.pace.settled()

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
            self.pace.ended()
        self.last = commit_id
        size = sum(record.size for record in whole.files.values())
        log.info("committed %s: %.1f MB in %.2f s", commit_id, size / 1e6, time.monotonic() - began)
        commit = CommitRef(id=str(commit_id), step=commit_id.step, time=manifest.time)
        self.listener.committed(commit, self.keeper.prune(commit_id))


def _give_way() -> None:
    """Let training have the cores first: writing takes more than a second of CPU for each gigabyte.

    On Linux a thread has a niceness of its own. While training waits for a commit, the cores are
    idle, and the thread has all that it needs.
    """
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)
