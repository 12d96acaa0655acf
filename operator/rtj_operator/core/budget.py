"""How often an attempt may end, and how long to wait before the next one.

Three budgets, apart: failures of the program and hangs count against `backoffLimit`, disruptions
against `maxDisruptionRestarts` (unlimited by default), and disrupted attempts in a row without a
new commit against `maxNoProgressRestarts`. Disruptions are answered at once, with one exception
that would otherwise go on for ever: pods that never started are tried ever more slowly. A rule of
the failure policy may send an ending to another budget, or to none, but never past one.

With a sliding window the two budgets that count restarts look at their times, not at their totals.
`status.attempts` holds the last ten only, so the times are kept apart, as many as the budget has.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rtj_api.failure import RuleAction
from rtj_api.names import Cause, Reason
from rtj_api.spec import JobSpec
from rtj_api.status import EndedAttempt, Restarts

from rtj_operator.core.classify import Ending
from rtj_operator.core.failure_rules import Ruling

FIRST_BACKOFF_SECONDS = 10
LONGEST_BACKOFF_SECONDS = 360
JITTER = 0.5
"""A pause is longer by up to this share, lest a thousand jobs that fail together retry together."""
FREE_REPEATS = 2
"""Disruptions in a row, of pods that never even started, that are answered at once."""

ENDED_BADLY = frozenset({Cause.PREEMPTED, Cause.USER_ERROR})


@dataclass(frozen=True)
class Charge:
    """An ended attempt, with all that its price depends on.

    It neither completed nor was it permanent.
    """

    ending: Ending
    attempts: Sequence[EndedAttempt]
    """The ended ones that status keeps, this one included."""
    progressed: bool
    """Whether it made a new commit."""
    now: datetime
    job_uid: str
    ruling: Ruling | None = None


@dataclass(frozen=True)
class Bill:
    """What an ending costs."""

    restarts: Restarts
    delay: float = 0.0
    """Seconds before the next attempt."""
    failure: tuple[Reason, str] | None = None
    """Why there is no next attempt."""


def backoff(failures: int) -> float:
    """Seconds to wait after this many failures: 10, 20, 40 … 360."""
    if failures <= 0:
        return 0.0
    return float(min(FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 16), LONGEST_BACKOFF_SECONDS))


def jittered(seconds: float, job_uid: str, attempt: int) -> float:
    """Lengthen a pause by 0 … 50 %: always the same for one attempt, so that deciding is pure."""
    digest = hashlib.sha256(f"{job_uid} {attempt}".encode()).digest()
    share = int.from_bytes(digest[:4]) / 2**32
    return round(seconds * (1 + JITTER * share), 3)


def charge(restarts: Restarts, item: Charge, spec: JobSpec) -> Bill:
    """Charge an ending to its budget."""
    asked = item.ending.cause is Cause.SUSPENDED
    in_a_row = 0 if item.ending.started else restarts.never_started + (not asked)
    restarts = restarts.model_copy(update={"never_started": in_a_row})
    if asked:
        return Bill(restarts.model_copy(update=_no_progress(0 if item.progressed else None)))
    match item.ruling.action if item.ruling else None:
        case RuleAction.FAIL:
            return _fail(restarts, item)
        case RuleAction.IGNORE:
            return _ignore(restarts, item)
        case RuleAction.RECREATE:
            return _charge_disruption(restarts, item, spec)
        case RuleAction.COUNT:
            return _charge_failure(restarts, item, spec)
    if item.ending.cause is Cause.PREEMPTED:
        return _charge_disruption(restarts, item, spec)
    return _charge_failure(restarts, item, spec)


def _fail(restarts: Restarts, item: Charge) -> Bill:
    where = item.ruling.where if item.ruling else ""
    message = f"{where} says Fail about this end of an attempt: {item.ending.message}"
    return Bill(restarts, failure=(Reason.FAILED_BY_RULE, message))


def _ignore(restarts: Restarts, item: Charge) -> Bill:
    """Charge nothing; what repeats without progress is slowed down, since nothing else stops it."""
    counted = _restarted(restarts, "ignored", **_no_progress(0 if item.progressed else None))
    repeats = idle_attempts(item.attempts)
    return Bill(counted, _pause(item, repeats - FREE_REPEATS))


def _charge_failure(restarts: Restarts, item: Charge, spec: JobSpec) -> Bill:
    limit = spec.run_policy.backoff_limit
    counted = restarts.model_copy(update=_no_progress(0 if item.progressed else None))
    times = _in_window(restarts.failure_times, item.now, spec)
    used = restarts.user_error + restarts.hung if times is None else len(times)
    if used >= limit:
        message = (
            f"Failure {used + 1}{_window(spec)} with spec.runPolicy.backoffLimit {limit}: "
            f"{item.ending.message}"
        )
        return Bill(counted, failure=(Reason.BACKOFF_LIMIT_EXCEEDED, message))
    kind = "hung" if item.ending.cause is Cause.HUNG else "user_error"
    counted = _restarted(counted, kind, failure_times=_newest(times, item.now, limit))
    return Bill(counted, _pause(item, used + 1))


def _charge_disruption(restarts: Restarts, item: Charge, spec: JobSpec) -> Bill:
    ending, policy = item.ending, spec.failure_policy
    in_a_row = 0 if item.progressed else restarts.no_progress + ending.started
    counted = restarts.model_copy(update=_no_progress(in_a_row))
    if in_a_row >= policy.max_no_progress_restarts:
        message = (
            f"{in_a_row} attempts in a row ended without a new commit "
            f"(spec.failurePolicy.maxNoProgressRestarts {policy.max_no_progress_restarts}). "
            f"Commit more often (spec.checkpoint). The last one: {ending.message}"
        )
        return Bill(counted, failure=(Reason.NO_PROGRESS, message))
    limit = policy.max_disruption_restarts
    times = _in_window(restarts.disruption_times, item.now, spec)
    used = restarts.preempted if times is None else len(times)
    if limit is not None and used >= limit:
        message = (
            f"Disruption {used + 1}{_window(spec)} with spec.failurePolicy.maxDisruptionRestarts "
            f"{limit}: {ending.message}"
        )
        return Bill(counted, failure=(Reason.DISRUPTION_LIMIT_EXCEEDED, message))
    counted = _restarted(
        counted, "preempted", disruption_times=_newest(times, item.now, limit or 0)
    )
    return Bill(counted, _pause(item, counted.never_started - FREE_REPEATS))


def _pause(item: Charge, failures: int) -> float:
    return jittered(backoff(failures), item.job_uid, item.attempts[-1].number)


def _restarted(restarts: Restarts, kind: str, **fields: Any) -> Restarts:
    counts = {kind: getattr(restarts, kind) + 1, "total": restarts.total + 1}
    return restarts.model_copy(update={**counts, **fields})


def _no_progress(in_a_row: int | None) -> dict[str, int]:
    return {} if in_a_row is None else {"no_progress": in_a_row}


def _in_window(times: Sequence[datetime], now: datetime, spec: JobSpec) -> list[datetime] | None:
    """Return the times that still count; None when there is no window and totals count."""
    window = spec.failure_policy.window_seconds
    if window is None:
        return None
    return [time for time in times if now - time < timedelta(seconds=window)]


def _newest(times: list[datetime] | None, now: datetime, limit: int) -> list[datetime]:
    """Return the times to keep: older ones than the budget can hold never decide anything."""
    return [] if times is None or limit == 0 else [*times, now][-limit:]


def _window(spec: JobSpec) -> str:
    seconds = spec.failure_policy.window_seconds
    return f" within {seconds} s (spec.failurePolicy.windowSeconds)" if seconds else ""


def idle_attempts(attempts: Sequence[EndedAttempt]) -> int:
    """Count the newest attempts in a row that ended badly and left the newest commit where it was.

    Of more than status keeps it counts those; the pause has long stopped growing by then.
    """
    steps = [None, *(attempt.committed_step for attempt in attempts)]
    idle = 0
    for attempt, before in zip(reversed(attempts), reversed(steps[:-1]), strict=True):
        if attempt.cause not in ENDED_BADLY or attempt.committed_step != before:
            break
        idle += 1
    return idle
