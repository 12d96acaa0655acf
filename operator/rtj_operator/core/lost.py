"""Which attempt ended, and what it lost where its trainer did not measure it."""

from datetime import datetime

from rtj_api.names import Cause
from rtj_api.status import CurrentAttempt, EndedAttempt, JobStatus


def ended_between(before: JobStatus, after: JobStatus) -> EndedAttempt | None:
    """Return the attempt that ended from one status to the next; a status ends one at most."""
    if not after.attempts:
        return None
    last = after.attempts[-1]
    known = before.attempts[-1].number if before.attempts else 0
    return last if last.number > known else None


def lost_by_clock(
    attempt: CurrentAttempt, committed: datetime | None, cause: Cause, now: datetime
) -> float:
    """Return the seconds from an attempt's newest commit to its end, for want of a measurement.

    Without a commit of its own, all since its trainer was first seen alive; 0 if it never was.
    `committed`, the time of the job's newest commit, is on the clock of the trainer's node, so the
    answer is kept within the attempt.
    """
    if cause is Cause.COMPLETED:
        return 0.0
    since = attempt.running_time
    if committed and committed > attempt.decided_time:
        since = committed
    if since is None:
        return 0.0
    return max((now - max(since, attempt.decided_time)).total_seconds(), 0.0)
