"""What an ended attempt cost: the training that the next one must repeat."""

from rtj_api.names import Cause
from rtj_api.status import EndedAttempt, JobStatus


def ended_between(before: JobStatus, after: JobStatus) -> EndedAttempt | None:
    """Return the attempt that ended from one status to the next; a status ends one at most."""
    if not after.attempts:
        return None
    last = after.attempts[-1]
    known = before.attempts[-1].number if before.attempts else 0
    return last if last.number > known else None


def seconds_lost(before: JobStatus, after: JobStatus) -> float:
    """Return the seconds from the ended attempt's newest commit to its end.

    Without a commit of its own, all since its trainer was first seen alive; 0 if it never was.
    Commits carry the clock of the trainer's node, so the answer is kept within the attempt.
    """
    ended, commit = ended_between(before, after), after.last_commit
    if ended is None or ended.cause is Cause.COMPLETED:
        return 0.0
    if commit and commit.time > ended.start_time:
        since = commit.time
    elif before.attempt and before.attempt.running_time:
        since = before.attempt.running_time
    else:
        return 0.0
    return max((ended.end_time - max(since, ended.start_time)).total_seconds(), 0.0)
