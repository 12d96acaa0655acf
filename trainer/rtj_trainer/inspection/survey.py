"""Reads what one job keeps on its volume into a report, and says what is wrong with it."""

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

from rtj_api.wire import WireModel

from rtj_trainer import ledger
from rtj_trainer.commits import attempts, lineage
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import (
    CommitDamagedError,
    EpochSize,
    Manifest,
    verify_commit,
)
from rtj_trainer.cutting import Cutting
from rtj_trainer.errors import PermanentError
from rtj_trainer.inspection.epochs import check_epochs


class AttemptReport(WireModel):
    """One attempt that ever took its fence."""

    attempt: int
    pod_uid: str | None
    time: str | None
    """When it took its fence, by its node's clock."""
    started: bool
    """Whether it got as far as its start record; before that it cannot commit."""
    starts_from: str | None
    """The commit that it went on from; None for step 0."""
    problem: str | None = None


class CommitReport(WireModel):
    """One commit, whether any restart can reach it or not."""

    id: str
    step: int
    attempt: int
    size: int
    """Bytes of all its files."""
    in_lineage: bool
    """Whether the next attempt may go on from it."""
    problem: str | None = None
    """None if every byte is what its manifest says."""
    manifest: Manifest | None = None


class LedgerReport(WireModel):
    """What the ledger says of the steps up to the newest commit."""

    job: str
    """Folder of the job."""
    commit: str | None = None
    steps: int = 0
    complete: bool = False
    """Whether that commit is the end of the job."""
    ledger_hash: str | None = None
    state_sha256: str | None = None
    examples_per_epoch: dict[int, int] | None = None
    """None if the pipeline yields no ids."""
    epoch_size: EpochSize | None = None
    """What an epoch had to hold; None if that is not known, and epochs were only compared."""
    cutting: Cutting | None = None
    """Which batches the steps were, where that is known: one batch size after the other."""
    doubt: str | None = None
    """What speaks against it, where the builder may intend that."""
    problem: str | None = None

    @property
    def is_wrong(self) -> bool:
        """Return whether what was to be shown is not so."""
        return self.problem is not None


class JobReport(WireModel):
    """Everything about one job that can be known without TensorFlow."""

    uid: str
    path: str
    size: int
    """Bytes of everything in its folder."""
    goes_on_from: str | None
    """The commit that the next attempt would go on from; None for step 0, or if there is none."""
    problem: str | None
    """Why the next attempt could not start."""
    attempts: list[AttemptReport]
    commits: list[CommitReport]
    """Newest first; those of the lineage before the others."""
    leftovers: list[str]
    """What is being written, or was left by a killed writer; the next attempt removes that."""
    ledger: LedgerReport

    @property
    def is_wrong(self) -> bool:
        """Return whether anything is damaged."""
        problems = [self.problem, self.ledger.problem]
        problems += [found.problem for found in self.attempts]
        problems += [found.problem for found in self.commits]
        return any(problems)


def find_jobs(folder: Path) -> list[JobDirectory]:
    """Return the job in a folder, or the jobs on the volume whose root it is, by name.

    Raises:
        OSError: there is no such folder, or no job in it.
    """
    found = [JobDirectory(path) for path in (folder, *sorted(folder.iterdir())) if _is_job(path)]
    if not found:
        raise OSError(
            errno.ENOENT, "no job is here; give a volume's root or a job's folder", folder
        )
    return found[:1] if found[0].root == folder else found


def _is_job(folder: Path) -> bool:
    job = JobDirectory(folder)
    return job.attempts.is_dir() and job.commits.is_dir()


def inspect_job(job: JobDirectory) -> JobReport:
    """Read everything of one job, and verify its commits byte by byte."""
    fenced = job.fenced_attempts()
    chosen, problem = _next_start(job, max(fenced, default=0) + 1)
    return JobReport(
        uid=job.root.name,
        path=str(job.root),
        size=_size(job.root),
        goes_on_from=str(chosen) if chosen else None,
        problem=problem,
        attempts=[_attempt(job, number) for number in fenced],
        commits=_commits(job, max(fenced, default=0) + 1),
        leftovers=[path.name for path in job.temporary_folders()],
        ledger=check_ledger(job),
    )


def _next_start(job: JobDirectory, attempt: int) -> tuple[CommitId | None, str | None]:
    try:
        return lineage.choose(job, attempt, expected_step=0).commit_id, None
    except PermanentError as error:
        return None, error.message


def _attempt(job: JobDirectory, number: int) -> AttemptReport:
    record, problem = None, None
    try:
        record = attempts.read_start_record(job, number)
    except (OSError, ValueError) as error:
        problem = str(error)
    fence = _fence(job.fence(number))
    starts_from = str(record.starts_from) if record and record.starts_from else None
    return AttemptReport(
        attempt=number,
        pod_uid=fence.get("podUid"),
        time=fence.get("time"),
        started=record is not None,
        starts_from=starts_from,
        problem=problem,
    )


def _fence(path: Path) -> dict[str, Any]:
    # Only the name of a fence counts; what is in it is for people.
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _commits(job: JobDirectory, before: int) -> list[CommitReport]:
    try:
        line = lineage.candidates(job, before)
    except ValueError:  # said with the attempt whose record it is
        line = []
    others = [found for found in reversed(job.commit_ids()) if found not in line]
    reports = [_commit(job, found, in_lineage=True) for found in line]
    reports += [_commit(job, found, in_lineage=False) for found in others]
    # Where an older attempt began is in the lineage for ever; retention may delete its commit.
    return [report for report in reports if job.commits.joinpath(report.id).exists()]


def _commit(job: JobDirectory, commit_id: CommitId, in_lineage: bool) -> CommitReport:
    folder = job.commit(commit_id)
    manifest, problem = None, None
    try:
        manifest = verify_commit(folder)
    except CommitDamagedError as error:
        problem = str(error)
    return CommitReport(
        id=str(commit_id),
        step=commit_id.step,
        attempt=commit_id.attempt,
        size=_size(folder),
        in_lineage=in_lineage,
        problem=problem,
        manifest=manifest,
    )


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder, each once, however many links it has.

    Those that go away meanwhile count nothing.
    """
    sizes: dict[int, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - hot
                sizes[found.st_ino] = found.st_size
    return sum(sizes.values())


def check_ledger(job: JobDirectory, strict: bool = False) -> LedgerReport:
    """Check that each example was used exactly once per epoch, as far as the newest commit.

    Args:
        job: Folder of the job.
        strict: Whether it is a problem if that cannot be told: because nothing was committed yet,
            or because the pipeline does not name its examples.
    """
    report = LedgerReport(job=str(job.root))
    if not strict and not job.commit_ids():
        return report
    try:
        newest, manifest = ledger.head(job)
        report = report.model_copy(
            update={
                "commit": str(newest),
                "complete": manifest.complete,
                "ledger_hash": manifest.ledger_hash,
                "state_sha256": manifest.state_sha256,
                "epoch_size": manifest.epoch_size,
                "cutting": manifest.cutting,
            }
        )
        steps = ledger.trajectory(job, newest, manifest.ledger_hash)
        found = check_epochs(steps, manifest, strict)
    except OSError as error:
        return report.model_copy(update={"problem": f"{error.filename}: {error.strerror}"})
    except ValueError as error:
        return report.model_copy(update={"problem": str(error)})
    return report.model_copy(update=found)
