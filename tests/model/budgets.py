"""What each ended attempt must cost, told a second time, from the attempts alone.

The operator keeps counters and times; this looks at none of them. It knows the rules of the model's
job by their exit codes, and counts over every attempt that status ever showed.
"""

from collections.abc import Container, Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from rtj_api.names import Cause, ExitCode
from rtj_api.status import EndedAttempt, JobStatus, Restarts

IGNORED, RECREATED, FAILED = 41, 42, 43
RULES: list[dict[str, Any]] = [
    {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [IGNORED, 78]}},
    {"action": "Recreate", "onExitCodes": {"operator": "In", "values": [RECREATED, 78]}},
    {"action": "Fail", "onExitCodes": {"operator": "In", "values": [FAILED]}},
    {"action": "Count", "onTerminationMessage": {"pattern": "^TrainerPreempted: "}},
]
"""78 must change nothing: what no retry can help is beyond every rule."""


class Price(Enum):
    """Which budget an ended attempt is charged to."""

    NONE = auto()
    FAILURE = auto()
    DISRUPTION = auto()
    THE_JOB = auto()
    """There is no next attempt at all."""


BY_RULE = {
    IGNORED: Price.NONE,
    RECREATED: Price.DISRUPTION,
    FAILED: Price.THE_JOB,
    ExitCode.PREEMPTED: Price.FAILURE,
}


def price(ended: EndedAttempt, rules: bool) -> Price:
    """Return what an ended attempt costs, with or without the rules above."""
    if ended.cause in (Cause.COMPLETED, Cause.PERMANENT) or ended.exit_code == ExitCode.PERMANENT:
        return Price.THE_JOB
    if ended.cause is Cause.SUSPENDED:
        return Price.NONE
    if ended.cause is Cause.HUNG:
        return Price.FAILURE
    if rules and ended.exit_code in BY_RULE:
        return BY_RULE[ended.exit_code]
    return Price.DISRUPTION if ended.cause is Cause.PREEMPTED else Price.FAILURE


def history(statuses: Iterable[JobStatus]) -> list[EndedAttempt]:
    """Return every attempt that ever ended, oldest first."""
    ended = {attempt.number: attempt for status in statuses for attempt in status.attempts}
    return [ended[number] for number in sorted(ended)]


def check_restarts(
    ended: Sequence[EndedAttempt],
    newest: int,
    rules: bool,
    limits: dict[Price, int | None],
    window: int | None,
) -> None:
    """Assert that each attempt below `newest` was followed by another within its budget."""
    charged: dict[Price, list[datetime]] = {}
    for attempt in ended:
        cost = price(attempt, rules)
        before = [
            time
            for time in charged.get(cost, [])
            if window is None or attempt.end_time - time < timedelta(seconds=window)
        ]
        if attempt.number < newest:
            assert cost is not Price.THE_JOB, f"a restart after {attempt}"
            limit = limits.get(cost)
            assert limit is None or len(before) < limit, f"{cost} {len(before) + 1}: {attempt}"
        charged[cost] = [*before, attempt.end_time]


def idle_attempts(ended: Sequence[EndedAttempt], fruitless: Container[int]) -> set[int]:
    """Return the attempts that surely left the newest commit where it was.

    Args:
        ended: All, oldest first.
        fruitless: Attempts that ran and made no commit. One that only noticed a commit that an
            older attempt could not tell of is not idle.
    """
    steps = [None, *(attempt.committed_step for attempt in ended)]
    return {
        attempt.number
        for attempt, before in zip(ended, steps[:-1], strict=True)
        if attempt.number in fruitless and attempt.committed_step == before
    }


def check_progress(
    ended: Iterable[EndedAttempt], newest: int, idle: set[int], rules: bool, limit: int
) -> None:
    """Assert that the attempt under way does not follow too many disrupted ones in a row."""
    in_a_row = 0
    for attempt in ended:
        if attempt.number not in idle:
            in_a_row = 0
        elif price(attempt, rules) is Price.DISRUPTION:
            in_a_row += 1
        followed = attempt.number < newest
        assert not followed or in_a_row < limit, f"{in_a_row} in a row made no commit: {attempt}"


def check_no_progress(ended: Sequence[EndedAttempt], rules: bool, limit: int) -> None:
    """Assert that a job that failed for it had so many disrupted attempts without a new commit."""
    in_a_row, newest = 0, -1
    for attempt in ended:
        if attempt.committed_step is not None and attempt.committed_step > newest:
            in_a_row, newest = 0, attempt.committed_step
        elif price(attempt, rules) is Price.DISRUPTION:
            in_a_row += 1
    assert in_a_row >= limit, f"only {in_a_row} in a row made no commit"


def check_counters(ended: Sequence[EndedAttempt], restarts: Restarts, rules: bool) -> None:
    """Assert that status counts each restart once, under its own budget."""
    prices = [price(attempt, rules) for attempt in ended if attempt.cause is not Cause.SUSPENDED]
    assert restarts.preempted == prices.count(Price.DISRUPTION)
    assert restarts.user_error + restarts.hung == prices.count(Price.FAILURE)
    assert restarts.ignored == prices.count(Price.NONE)
    assert restarts.total == len(prices)
