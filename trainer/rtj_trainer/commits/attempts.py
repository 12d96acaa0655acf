"""The fence and the start record: who may write, and what it goes on from."""

from dataclasses import dataclass
from datetime import UTC, datetime

from rtj_api.restore import RestoreAnswer

from rtj_trainer import files
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.sealed import seal, unseal
from rtj_trainer.errors import SupersededError


@dataclass(frozen=True)
class StartRecord:
    """What an attempt goes on from; None is a start from scratch."""

    attempt: int
    starts_from: CommitId | None
    answer: RestoreAnswer | None = None
    """To the newest request to go back that this attempt, or one before it, was given."""


def create_fence(job: JobDirectory, attempt: int, pod_uid: str) -> None:
    """Take the attempt number for this process, for ever.

    Raises:
        SupersededError: this attempt was taken by another process, or a newer one exists.
    """
    check_fence(job, attempt)
    created = files.create_exclusively(
        job.fence(attempt),
        seal({"attempt": attempt, "podUid": pod_uid, "time": datetime.now(UTC).isoformat()}),
    )
    if not created:
        raise SupersededError(
            f"attempt {attempt} was already started by another process ({job.fence(attempt)}); "
            "an attempt number is used once"
        )
    check_fence(job, attempt)


def check_fence(job: JobDirectory, attempt: int) -> None:
    """Return if this attempt is still the newest.

    Raises:
        SupersededError: a newer attempt has a fence on the volume.
    """
    newest = max(job.fenced_attempts(), default=0)
    if newest > attempt:
        raise SupersededError(
            f"attempt {newest} has started; attempt {attempt} may not write", newest
        )


def write_start_record(job: JobDirectory, record: StartRecord) -> None:
    """Record the commit that the attempt goes on from, before it commits anything itself.

    Raises:
        SupersededError: a newer attempt has a fence on the volume.
    """
    check_fence(job, record.attempt)
    starts_from = str(record.starts_from) if record.starts_from else None
    answer = record.answer.model_dump(mode="json", by_alias=True) if record.answer else None
    files.create_exclusively(
        job.start_record(record.attempt), seal({"startsFrom": starts_from, "answer": answer})
    )


def read_start_record(job: JobDirectory, attempt: int) -> StartRecord | None:
    """Return what an attempt recorded, or None if it never got that far.

    Raises:
        ValueError: the record is there but damaged.
    """
    path = job.start_record(attempt)
    try:
        document = unseal(path.read_bytes())
        value, answer = document["startsFrom"], document["answer"]
        answered = RestoreAnswer.model_validate(answer) if answer else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if value is None:
        return StartRecord(attempt, None, answered)
    commit_id = CommitId.parse(str(value))
    if commit_id is None:
        raise ValueError(f"{path} is damaged: startsFrom is {value!r}, not a commit id")
    return StartRecord(attempt, commit_id, answered)


def newest_start_record(job: JobDirectory, before: int) -> StartRecord | None:
    """Return the start record of the newest attempt before number `before` that has one.

    An attempt without one never committed anything, so skipping it loses nothing.

    Raises:
        ValueError: a record is damaged.
    """
    for attempt in reversed([number for number in job.fenced_attempts() if number < before]):
        record = read_start_record(job, attempt)
        if record:
            return record
    return None
