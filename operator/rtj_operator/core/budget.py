"""How often an attempt may end, and how long to wait before the next one.

Failures of the program (and hangs) count against `backoffLimit`. Preemptions are free and are
answered at once, with two exceptions that would otherwise go on for ever: attempts that trained but
never came to a commit end the job, and pods that never started are tried ever more slowly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rtj_api.names import Cause, Reason
from rtj_api.spec import JobSpec
from rtj_api.status import EndedAttempt, Restarts

from rtj_operator.core.classify import Ending

FIRST_BACKOFF_SECONDS = 10
LONGEST_BACKOFF_SECONDS = 360
FREE_REPEATS = 2
"""Preemptions in a row, of pods that never even started, that are answered at once."""


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


def charge(
    restarts: Restarts, ending: Ending, *, progressed: bool, idle: int, spec: JobSpec
) -> Bill:
    """Charge an ending to its budget.

    `progressed`: whether the attempt made a new commit. `idle`: preempted attempts in a row, this
    one included, that made none. Completed and Permanent endings must not be brought here.
    """
    if ending.cause is Cause.SUSPENDED:
        return Bill(restarts)
    if ending.cause is Cause.PREEMPTED:
        return _charge_preemption(restarts, ending, progressed=progressed, idle=idle, spec=spec)
    counted = restarts.model_copy(update={"no_progress": 0} if progressed else {})
    limit = spec.run_policy.backoff_limit
    failures = restarts.user_error + restarts.hung
    if failures >= limit:
        message = (
            f"Failure {failures + 1} with spec.runPolicy.backoffLimit {limit}: {ending.message}"
        )
        return Bill(counted, failure=(Reason.BACKOFF_LIMIT_EXCEEDED, message))
    kind = "hung" if ending.cause is Cause.HUNG else "user_error"
    counted = counted.model_copy(
        update={kind: getattr(restarts, kind) + 1, "total": restarts.total + 1}
    )
    return Bill(counted, backoff(failures + 1))


def _charge_preemption(
    restarts: Restarts, ending: Ending, *, progressed: bool, idle: int, spec: JobSpec
) -> Bill:
    in_a_row = 0 if progressed else restarts.no_progress + ending.started
    counted = restarts.model_copy(update={"no_progress": in_a_row})
    limit = spec.failure_policy.max_no_progress_restarts
    if in_a_row >= limit:
        message = (
            f"{in_a_row} attempts in a row ended without a new commit "
            f"(spec.failurePolicy.maxNoProgressRestarts {limit}). Commit more often "
            f"(spec.checkpoint). The last one: {ending.message}"
        )
        return Bill(counted, failure=(Reason.NO_PROGRESS, message))
    counted = counted.model_copy(
        update={"preempted": restarts.preempted + 1, "total": restarts.total + 1}
    )
    never_started = 0 if ending.started else idle - in_a_row
    return Bill(counted, backoff(never_started - FREE_REPEATS))


def idle_preemptions(attempts: Sequence[EndedAttempt]) -> int:
    """Count the newest preempted attempts in a row that left the newest commit where it was."""
    steps = [None, *(attempt.committed_step for attempt in attempts)]
    idle = 0
    for attempt, before in zip(reversed(attempts), reversed(steps[:-1]), strict=True):
        if attempt.cause is not Cause.PREEMPTED or attempt.committed_step != before:
            break
        idle += 1
    return idle
