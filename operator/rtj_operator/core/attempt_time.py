"""Where the time of one attempt went, from what its trainer measured and what its pod shows.

The operator's clock says how long the attempt has lasted, the trainer's monotonic clock what the
trainer did in it. What is left lies before the trainer's process or after its last word. How much
lay before is the smallest difference that was ever seen while the trainer was heard, so neither a
late look nor another machine's clock gets into it. The time stamps of the pod only split that part,
and bound it where the trainer was never heard; each is kept within what is left.
"""

from datetime import datetime

from rtj_api.heartbeat import TrainerPhase
from rtj_api.names import Cause, Condition, Reason
from rtj_api.status import CurrentAttempt
from rtj_api.time_spent import TimeSpent, TrainerSeconds

from rtj_operator.core.classify import Ending
from rtj_operator.core.conditions import find
from rtj_operator.core.lost import lost_by_clock
from rtj_operator.core.observed import Observed

Parts = dict[str, float]
"""Seconds by kind, spelt as the fields of `TimeSpent` without `_seconds`."""

TOLERATED_SKEW_SECONDS = 30.0
"""By so much a node's clock may differ from the operator's before its stamps win over the rest."""

ROUNDING_SECONDS = 1.0
"""Status holds whole seconds."""


def parts_of_attempt(
    attempt: CurrentAttempt, observed: Observed, now: datetime, ending: Ending | None
) -> Parts:
    """Return where the time of the current attempt went; `ending` is set if it is over."""
    wall = max((now - attempt.decided_time).total_seconds(), 0.0)
    spent = newest_figures(observed)
    if spent:
        parts = _measured(attempt, observed, wall, spent, over=ending is not None)
    elif observed.beat:
        parts = _untold(attempt, observed, wall)
        if ending:
            commit = observed.beat.commit or observed.job.status.last_commit
            lost = lost_by_clock(attempt, commit.time if commit else None, ending.cause, now)
            _move(parts, "unknown", "lost", lost)
    else:
        parts = _unheard(attempt, observed, wall)
    if ending and ending.cause is Cause.HUNG:
        _tell_hung(parts, observed)
    return parts


def newest_figures(observed: Observed) -> TrainerSeconds | None:
    """Return the newest totals of the current attempt's trainer: they only grow."""
    pod, beat = observed.pod, observed.beat
    finals = [pod.exit.final if pod and pod.exit else None, beat.final if beat else None]
    told = [final.spent for final in finals if final] + [beat.spent if beat else None]
    return max((spent for spent in told if spent), key=lambda spent: spent.total, default=None)


def _measured(
    attempt: CurrentAttempt, observed: Observed, wall: float, spent: TrainerSeconds, over: bool
) -> Parts:
    rest = max(wall - spent.total, 0.0)
    silent = 0.0 if over else min(observed.silence.heartbeat, rest)
    launching = _before_process(attempt, observed, rest - silent, over)
    committed = min(spent.committed, spent.training)
    parts = {
        **_launching(attempt, observed, launching),
        "starting": spent.starting,
        "restoring": spent.restoring,
        "replaying": spent.replaying,
        "saving": spent.saving,
        "useful": committed,
        "lost" if over else "uncommitted": spent.training - committed,
    }
    left = rest - launching
    if over:
        unknown = min(attempt.time.unknown_seconds if attempt.time else 0.0, left)
        return {**parts, "unknown": unknown, "noticing": left - unknown}
    since_beat = min(left, silent + observed.settings.lease_interval)
    kind = _doing(observed, over=False)
    return {**parts, kind: parts.get(kind, 0.0) + since_beat, "unknown": left - since_beat}


def _before_process(
    attempt: CurrentAttempt, observed: Observed, longest: float, over: bool
) -> float:
    """Return the seconds before the trainer's process began, `longest` at most."""
    known, stamped = attempt.time, _stamped(attempt, observed)
    was = observed.job.status.attempt
    if known and was and was.running_time:
        return min(_launching_seconds(known) + (0.0 if over else ROUNDING_SECONDS), longest)
    if not over:
        bound = longest if stamped is None else stamped + TOLERATED_SKEW_SECONDS
        return min(longest, bound)
    return min(_launching_seconds(known) if stamped is None else stamped, longest)


def _stamped(attempt: CurrentAttempt, observed: Observed) -> float | None:
    """Return the seconds until the container started, by its node's clock; None if unknown."""
    started = observed.pod.started_time if observed.pod else None
    return max((started - attempt.decided_time).total_seconds(), 0.0) if started else None


def _launching_seconds(time: TimeSpent | None) -> float:
    if time is None:
        return 0.0
    return float(time.waiting_seconds + time.scheduling_seconds + time.pulling_seconds)


def _launching(attempt: CurrentAttempt, observed: Observed, seconds: float) -> Parts:
    """Split the time before the trainer's process."""
    pod, known = observed.pod, attempt.time or TimeSpent()
    blocked = _was_blocked(observed)
    if pod is None and attempt.pod_uid is None:
        return {"waiting" if blocked else "scheduling": seconds}
    waiting = float(known.waiting_seconds)
    if blocked and pod and pod.created_time:
        waiting = max(waiting, (pod.created_time - attempt.decided_time).total_seconds())
    waiting = min(waiting, seconds)
    node = pod.node if pod else attempt.node_name
    if node is None:
        scheduling = seconds
    elif pod and pod.scheduled_time and pod.created_time:
        scheduling = max((pod.scheduled_time - pod.created_time).total_seconds(), 0.0)
    else:
        scheduling = float(known.scheduling_seconds)
    scheduling = min(scheduling, seconds - waiting)
    return {
        "waiting": waiting,
        "scheduling": scheduling,
        "pulling": seconds - waiting - scheduling,
    }


def _was_blocked(observed: Observed) -> bool:
    """Whether something kept the pod from being created when status was written last."""
    attempt = observed.job.status.attempt
    running = find(observed.job.status.conditions, Condition.RUNNING)
    if attempt is None or attempt.pod_uid or running is None:
        return False
    return running.reason is not Reason.WAITING_FOR_PODS


def _unheard(attempt: CurrentAttempt, observed: Observed, wall: float) -> Parts:
    """Return the parts of an attempt whose trainer has never told anything."""
    known = attempt.time or TimeSpent()
    ran = observed.pod.started if observed.pod else known.starting_seconds > 0
    if not ran:
        return _launching(attempt, observed, wall)
    stamped = _stamped(attempt, observed)
    launching = min(_launching_seconds(known) if stamped is None else stamped, wall)
    return {**_launching(attempt, observed, launching), "starting": wall - launching}


def _untold(attempt: CurrentAttempt, observed: Observed, wall: float) -> Parts:
    """Return the parts of an attempt whose trainer beats, but does not measure."""
    parts = _unheard(attempt, observed, wall)
    _move(parts, "starting", "unknown", wall)
    return parts


def _tell_hung(parts: Parts, observed: Observed) -> None:
    """Take the standstill from where it was booked; the newest time is what was noticed last."""
    left = observed.silence.progress
    for kind in ("noticing", _doing(observed, over=True)):
        left -= _move(parts, kind, "hung", left)


def _doing(observed: Observed, over: bool) -> str:
    """Return the kind that the trainer's time belonged to when it was last heard."""
    beat = observed.beat
    if beat and beat.spent is None:
        return "unknown"
    match beat.phase if beat else TrainerPhase.STARTING:
        case TrainerPhase.STARTING:
            return "starting"
        case TrainerPhase.RESTORING:
            return "replaying" if beat and beat.spent and beat.spent.replaying else "restoring"
        case TrainerPhase.TRAINING:
            return "lost" if over else "uncommitted"
        case TrainerPhase.SAVING:
            return "saving"
        case TrainerPhase.FINISHED:
            return "noticing"


def _move(parts: Parts, source: str, target: str, seconds: float) -> float:
    """Move at most so many seconds from one kind to another; return how many were moved."""
    moved = min(parts.get(source, 0.0), max(seconds, 0.0))
    parts[source] = parts.get(source, 0.0) - moved
    parts[target] = parts.get(target, 0.0) + moved
    return moved
