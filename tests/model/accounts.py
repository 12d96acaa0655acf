"""What must be true of the time that status tells of, whatever happened."""

from datetime import datetime

from rtj_api.status import JobStatus
from rtj_api.time_spent import TimeSpent
from rtj_operator.core.timekeeping import finished_part


def check_time(status: JobStatus, written: datetime, trained: dict[int, float]) -> None:
    """Assert that the kinds add up, and that nothing is called useful that is not committed.

    Args:
        status: As it was written.
        written: When.
        trained: By attempt, the seconds of training that are in its newest commit.
    """
    if status.start_time is None:
        assert status.time is None
        return
    assert status.time is not None
    until = status.completion_time or written
    assert status.time.total == int((until - status.start_time).total_seconds()), status.time
    for ended in status.attempts:
        lasted = (ended.end_time - ended.start_time).total_seconds()
        assert ended.time is not None
        assert abs(ended.time.total - lasted) <= 1, ended
        assert ended.time.uncommitted_seconds == 0
    rounding = 1 + len(trained)
    assert status.time.useful_seconds <= sum(trained.values()) + rounding


def check_past(before: JobStatus, after: JobStatus) -> None:
    """Assert that what is over stays as it was told, and is part of the whole."""
    whole, old, new = after.time or TimeSpent(), finished_part(before), finished_part(after)
    for kind, seconds in new:
        assert getattr(old, kind) <= seconds <= getattr(whole, kind), kind
