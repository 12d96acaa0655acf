"""Begins a job with a commit of another one, which is only read, and which may go on meanwhile.

The commit is copied together with the ledger up to it, so that the fork can be restored, checked
and kept when the other job's folder is gone. Both get the number of the attempt that copies, as if
it had trained up to there itself: two attempts never write to the same place, and one that is
killed leaves nothing that counts.
"""

import hashlib
import os
from pathlib import Path

from rtj_api.launch import TrainerConfig
from rtj_api.names import Reason
from rtj_api.restore import LATEST, ForkRequest

from rtj_trainer import files
from rtj_trainer.commits import lineage
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.lineage import Choice
from rtj_trainer.commits.manifest import (
    CommitDamagedError,
    FileRecord,
    Manifest,
    Origin,
    read_manifest,
)
from rtj_trainer.commits.writer import write_commit
from rtj_trainer.errors import PermanentError, UserError
from rtj_trainer.files import explain
from rtj_trainer.ledger import trajectory

_CHUNK = 1 << 20
_ROUNDS = 3
"""How often the newest commit is looked for again when those that were there have gone."""


def import_commit(config: TrainerConfig, job: JobDirectory, request: ForkRequest) -> Choice:
    """Copy the commit that a fork begins with.

    Raises:
        PermanentError: `CommitNotFound`, with those that there are; `CommitDamaged`.
        UserError: no commit could be copied now, but later one may; the volume cannot be written.
        SupersededError: a newer attempt exists.
    """
    source = JobDirectory(config.volume / request.job_uid)
    where = f"job {request.job_uid} on claim {config.checkpoint.claim_name}"
    if not source.attempts.is_dir():
        raise PermanentError(
            Reason.COMMIT_NOT_FOUND,
            f"spec.forkFrom: there is no {where}. A fork and its origin must have the same "
            "spec.checkpoint.claimName.",
        )
    if request.commit == LATEST:
        return _import_newest(config, job, source, where)
    return _import_named(config, job, source, request.commit, where)


def _import_newest(
    config: TrainerConfig, job: JobDirectory, source: JobDirectory, where: str
) -> Choice:
    reasons = ["it has made none yet"]
    for _ in range(_ROUNDS):
        try:
            names = lineage.candidates(source, before=10**6)
        except ValueError as error:
            raise PermanentError(
                Reason.COMMIT_DAMAGED, f"spec.forkFrom: {where}: {error}"
            ) from None
        failed = []
        for commit_id in names:
            try:
                return _copied(config, job, source, commit_id)
            except CommitDamagedError as error:
                failed.append(f"{commit_id}: {error}")
        reasons = failed or reasons
    raise UserError(
        Reason.COMMIT_NOT_FOUND,
        f"spec.forkFrom: no commit of {where} can be copied ({'; '.join(reasons[:3])}). "
        "If that job deletes them too early, raise its spec.checkpoint.keep.",
    )


def _import_named(
    config: TrainerConfig, job: JobDirectory, source: JobDirectory, name: str, where: str
) -> Choice:
    commit_id = CommitId.parse(name)
    if commit_id is not None and commit_id in source.commit_ids():
        try:
            return _copied(config, job, source, commit_id)
        except CommitDamagedError as error:
            if source.commit(commit_id).is_dir():
                message = f"spec.forkFrom.commit {name!r} of {where} is damaged: {error}"
                raise PermanentError(Reason.COMMIT_DAMAGED, message) from error
    there = ", ".join(source.newest_commits(10)) or "none"
    raise PermanentError(
        Reason.COMMIT_NOT_FOUND,
        f"spec.forkFrom.commit {name!r}: {where} has no such commit (any more); there are: "
        f"{there}. Create the fork again, with one of these or with latest.",
    )


def _copied(
    config: TrainerConfig, job: JobDirectory, source: JobDirectory, commit_id: CommitId
) -> Choice:
    """Copy one commit. Raises CommitDamagedError, UserError."""
    folder = source.commit(commit_id)
    manifest = read_manifest(folder)

    def copy_files(target: Path) -> Manifest:
        for name, record in manifest.files.items():
            if _copy_file(folder / name, target / name) != record:
                raise CommitDamagedError(f"{name} is not what the manifest says")
        return manifest.model_copy(update=changes)

    own = CommitId(commit_id.step, config.attempt)
    changes = {
        "attempt": config.attempt,
        "parent": None,
        "origin": Origin(job_uid=source.root.name, commit=str(commit_id)),
    }
    try:
        _copy_ledger(job, config.attempt, source, commit_id, manifest.ledger_hash)
        written = write_commit(job, own, copy_files)
    except OSError as error:
        raise UserError(Reason.VOLUME_UNUSABLE, f"{job.root}: {explain(error)}") from error
    return Choice(own, written)


def _copy_ledger(
    job: JobDirectory, attempt: int, source: JobDirectory, head: CommitId, expected: str
) -> None:
    """Write the steps that are in the commit to the head of this attempt's segment, durably."""
    segment = job.ledger_segment(attempt)
    with segment.open("wb") as file:
        try:
            for entry in trajectory(source, head, expected):
                file.write(entry.line())
        except ValueError as error:
            raise CommitDamagedError(f"its ledger is damaged: {error}") from error
        except FileNotFoundError as error:
            raise CommitDamagedError(f"its ledger lacks {error.filename}") from error
        file.flush()
        os.fsync(file.fileno())
    files.fsync_directory(segment.parent)


def _copy_file(source: Path, target: Path) -> FileRecord:
    """Copy a file; return size and sha256 of what was read."""
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as written:
        try:
            with source.open("rb") as read:
                while chunk := read.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    written.write(chunk)
        except FileNotFoundError as error:
            raise CommitDamagedError(f"{source.name} is gone") from error
    return FileRecord(size=size, sha256=digest.hexdigest())
