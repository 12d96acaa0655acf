"""Which commits count, newest first, and which of them to restore."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rtj_api.names import Reason

from rtj_trainer.commits import attempts
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import CommitDamagedError, Manifest, read_manifest, verify_commit
from rtj_trainer.errors import PermanentError

_ROUNDS = 3
"""How often it is looked again when commits come and go meanwhile."""


@dataclass(frozen=True)
class Rejected:
    """A commit that was passed over, and why."""

    commit_id: CommitId
    why: str


@dataclass(frozen=True)
class Choice:
    """The commit to go on from (None: start from scratch) and those passed over on the way."""

    commit_id: CommitId | None
    """Where its files are: an attempt that starts holds them under its own number."""
    manifest: Manifest | None
    rejected: tuple[Rejected, ...] = ()
    starts_from: CommitId | None = None
    """Where the lineage goes on behind it; None where it begins, as with another job's commit."""


def candidates(job: JobDirectory, before: int) -> list[CommitId]:
    """Return the commits that attempt `before` may go on from, best first.

    They are the commits of the newest attempt with a start record, then the commit that it started
    from, then those of the attempt that wrote that one up to it, and so on. A commit that an
    attempt started from is listed even if its folder is gone, so that its loss is noticed.
    """
    record = attempts.newest_start_record(job, before)
    return list(_walk(job, record)) if record else []


def own_and_older(job: JobDirectory, attempt: int) -> list[CommitId]:
    """Return the lineage of a running attempt, newest first, its own commits included."""
    record = attempts.read_start_record(job, attempt)
    return list(_walk(job, record)) if record else []


def _walk(job: JobDirectory, record: attempts.StartRecord | None) -> Iterator[CommitId]:
    limit: CommitId | None = None  # newest commit of the attempt that still belongs to the lineage
    while record:
        for commit_id in reversed(job.commit_ids()):
            own = commit_id.attempt == record.attempt
            if own and (limit is None or commit_id < limit):
                yield commit_id
        limit = record.starts_from
        if limit is None:
            return
        yield limit
        record = attempts.read_start_record(job, limit.attempt)


Hold = Callable[[CommitId], Manifest]
"""Verifies a commit and returns the manifest of what to restore, or raises CommitDamagedError."""


def choose(job: JobDirectory, attempt: int, expected_step: int, hold: Hold | None = None) -> Choice:
    """Pick the commit that an attempt goes on from: the first candidate that verifies.

    Args:
        job: Folder of the job.
        attempt: Number of the attempt that is starting.
        expected_step: Step of the newest commit that was ever reported; 0 if none was.
        hold: How to make sure of the commit; without it, the commit is verified where it is.

    Raises:
        PermanentError: `PositionLost`: there was a position and none of it can be restored. A
            silent restart from step 0 is never the answer.
    """
    hold = hold or (lambda found: verify_commit(job.commit(found)))
    try:
        choice = _first_held(job, attempt, hold, _ROUNDS)
        orphans = [found for found in job.commit_ids() if _is_orphan(job, found)]
    except ValueError as error:
        raise _lost(job, str(error)) from error
    if choice.commit_id:
        return choice
    if choice.rejected:
        reasons = "; ".join(f"{item.commit_id}: {item.why}" for item in choice.rejected[:3])
        raise _lost(job, f"none of {len(choice.rejected)} commits verifies ({reasons})")
    if expected_step > 0:
        raise _lost(job, f"the job had committed step {expected_step}, but no commit is there")
    if orphans:
        raise _lost(
            job, f"commit {orphans[-1]} is there, but {job.attempts} does not say where it belongs"
        )
    return choice


def _first_held(job: JobDirectory, attempt: int, hold: Hold, rounds: int) -> Choice:
    there = job.commit_ids()
    rejected: list[Rejected] = []
    for commit_id in candidates(job, attempt):
        try:
            manifest = hold(commit_id)
        except CommitDamagedError as error:
            # A writer that does not see yet that it is cut off may have deleted this one, after it
            # wrote a newer one.
            if rounds > 1 and job.commit_ids() != there:
                return _first_held(job, attempt, hold, rounds - 1)
            rejected.append(Rejected(commit_id, str(error)))
        else:
            held = replace(commit_id, attempt=manifest.attempt)
            return Choice(held, manifest, tuple(rejected), starts_from=commit_id)
    return Choice(None, None, tuple(rejected))


def _is_orphan(job: JobDirectory, commit_id: CommitId) -> bool:
    """Return whether a commit's attempt has no start record, without which it never commits.

    The copy that a fork begins with is older than its start record, so it may lack one.
    """
    if attempts.read_start_record(job, commit_id.attempt) is not None:
        return False
    try:
        return read_manifest(job.commit(commit_id)).origin is None
    except CommitDamagedError:
        return True


def _lost(job: JobDirectory, what: str) -> PermanentError:
    return PermanentError(
        Reason.POSITION_LOST,
        f"the position of this job cannot be restored: {what}. Restore {job.root} from a backup, "
        "or create the job again under a new name to train from step 0.",
    )
