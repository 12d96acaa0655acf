"""Decides when to commit, and puts a commit together from its parts."""

import errno
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from rtj_api.heartbeat import CommitRef
from rtj_api.restore import MAX_COMMITS_SHOWN
from rtj_api.spec import DEFAULT_EVERY_SECONDS, CheckpointPolicy

from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import Manifest
from rtj_trainer.commits.retention import delete_old_commits
from rtj_trainer.commits.writer import write_commit
from rtj_trainer.ledger import LedgerWriter
from rtj_trainer.position import Position
from rtj_trainer.progress import Progress

log = logging.getLogger(__name__)


class State(Protocol):
    """What a commit needs of `rtj_trainer.state.TrainingState`."""

    def sha256(self) -> str:
        """Return the digest of all variables."""

    def write(self, folder: Path) -> None:
        """Write all variables."""


@dataclass
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
    """Newest commit; at first the one that the attempt started from."""
    _tried_step: int = field(init=False)
    _tried_time: float = field(init=False)

    def __post_init__(self) -> None:
        self._tried_step = self.last.step if self.last else 0
        self._tried_time = time.monotonic()

    def due(self, step: int) -> bool:
        """Return whether the policy wants a commit after this step."""
        every_steps, every_seconds = self.policy.every_steps, self.policy.every_seconds
        if every_steps is None and every_seconds is None:
            every_seconds = DEFAULT_EVERY_SECONDS
        if every_steps is not None and step - self._tried_step >= every_steps:
            return True
        elapsed = time.monotonic() - self._tried_time
        return every_seconds is not None and elapsed >= every_seconds and step > self._tried_step

    def covers(self, step: int) -> bool:
        """Return whether the newest commit holds this step already."""
        return self.last is not None and self.last.step == step

    def commit(self, progress: Progress, complete: bool = False) -> CommitRef:
        """Commit the state after the last step.

        Raises:
            SupersededError: a newer attempt exists; nothing was committed.
            OSError: the volume is full or broken; nothing was committed.
        """
        self._tried_step, self._tried_time = progress.step, time.monotonic()
        commit_id = CommitId(progress.step, self.attempt, final=complete)
        self.ledger.flush()
        now = datetime.now(UTC)
        manifest = Manifest(
            step=progress.step,
            epoch=progress.epoch,
            step_in_epoch=progress.step_in_epoch,
            samples=progress.samples,
            attempt=self.attempt,
            parent=str(self.last) if self.last else None,
            time=now,
            ledger_hash=self.ledger.rolling_hash,
            state_sha256=self.state.sha256(),
            complete=complete,
            **self.constant,
        )
        began = time.monotonic()
        manifest = write_commit(self.job, commit_id, manifest, self._write)
        self.last = commit_id
        size = sum(record.size for record in manifest.files.values())
        log.info("committed %s: %.1f MB in %.2f s", commit_id, size / 1e6, time.monotonic() - began)
        return CommitRef(id=str(commit_id), step=progress.step, time=now)

    def _write(self, folder: Path) -> None:
        self.state.write(folder)
        self.position.save(folder)

    def prune(self, stopping: bool = False) -> list[str]:
        """Delete what is too old, after a commit; return the names of the newest that are there.

        A trainer may be stopped because a user wants to go back to the oldest commit of which
        status tells, so the commit that a stop makes takes the place of none.

        Args:
            stopping: Whether the trainer was asked to stop.

        Raises:
            SupersededError: a newer attempt exists.
        """
        keep = self.policy.keep + stopping
        try:
            for commit_id in delete_old_commits(self.job, self.attempt, keep):
                log.debug("deleted commit %s", commit_id)
        except OSError as error:
            log.warning("old commits could not be deleted: %s", error)
        return self.job.newest_commits(MAX_COMMITS_SHOWN)


def explain(error: OSError) -> str:
    """Return what is wrong with the volume, for a user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return f"the volume is full ({error}); free space or enlarge the claim"
    return f"the volume cannot be written ({error})"
