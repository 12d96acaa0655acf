"""What must be true of the time that status tells of, whatever happened."""

from datetime import datetime

from rtj_api.status import JobStatus
from rtj_api.time_spent import TimeSpent
from rtj_operator.core.timekeeping import finished_part


def check_total(before: JobStatus, after: JobStatus, written: datetime) -> None:
    """Assert that all time since the start is told of, and none twice if the clock was set back.

    Args:
        before: The status that was replaced.
        after: The one that was written.
        written: When, on the clock that it was written by.
    """
    if after.start_time is None:
        assert after.time is None
        return
    assert after.time is not None
    until = after.completion_time or written
    elapsed = int((until - after.start_time).total_seconds())
    assert after.time.total == max(elapsed, before.time.total if before.time else 0), after.time


def check_kinds(status: JobStatus, trained: dict[int, float], *, lasting: bool) -> None:
    """Assert that nothing is told of ended attempts, or called useful, that was not so.

    Args:
        status: As it was written.
        trained: By attempt, the seconds of training that are in its newest commit.
        lasting: Whether the clock was never set back, so that an attempt's times tell how long it
            lasted.
    """
    for ended in status.attempts:
        lasted = (ended.end_time - ended.start_time).total_seconds()
        assert ended.time is not None
        assert not lasting or abs(ended.time.total - lasted) <= 1, ended
        assert ended.time.uncommitted_seconds == 0
    rounding = 1 + len(trained)
    useful = status.time.useful_seconds if status.time else 0
    assert useful <= sum(trained.values()) + rounding


def check_past(before: JobStatus, after: JobStatus) -> None:
    """Assert that what is over stays as it was told, and is part of the whole."""
    whole, old, new = after.time or TimeSpent(), finished_part(before), finished_part(after)
    for kind, seconds in new:
        assert getattr(old, kind) <= seconds <= getattr(whole, kind), kind
