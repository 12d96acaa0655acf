"""The two clocks of a whole job: its deadline, and how long it is kept after its end."""

from datetime import datetime

from rtj_api.run_policy import RunPolicy
from rtj_api.status import JobStatus


def until_deadline(policy: RunPolicy, status: JobStatus, now: datetime) -> float | None:
    """Seconds until the job is out of time, 0 or less when it is; None without a deadline."""
    if policy.active_deadline_seconds is None or status.start_time is None:
        return None
    return policy.active_deadline_seconds - (now - status.start_time).total_seconds()


def until_removal(policy: RunPolicy, status: JobStatus, now: datetime) -> float | None:
    """Seconds until a finished job is deleted, 0 or less when due; None if it is kept."""
    if policy.ttl_seconds_after_finished is None or status.completion_time is None:
        return None
    return policy.ttl_seconds_after_finished - (now - status.completion_time).total_seconds()
