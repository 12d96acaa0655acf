"""The condition CheckpointFresh: whether commits come as often as `spec.checkpoint` asks for.

It counts the training since the newest commit, on the trainer's own clock: what would be lost now.
So neither skewed clocks nor a long pause without a pod, nor a slow commit, make a commit stale. A
commit that was called stale stays it until there is a newer one, or another attempt trains.
"""

from rtj_api.checkpoint import DEFAULT_EVERY_SECONDS, CheckpointPolicy
from rtj_api.heartbeat import Heartbeat
from rtj_api.names import Condition, Reason
from rtj_api.time_spent import TrainerSeconds

from rtj_operator.core.attempt_time import newest_figures
from rtj_operator.core.conditions import find
from rtj_operator.core.judge import is_training
from rtj_operator.core.plan import Plan

INTERVALS = 3
SLACK_SECONDS = 60.0
"""For the shortest intervals, where a slow step or a late heartbeat would count for much."""


def show_freshness(plan: Plan, policy: CheckpointPolicy) -> None:
    """Set the condition while the attempt trains; else the last word stands."""
    beat = plan.observed.beat
    if beat is None or not is_training(beat):
        return
    spent = newest_figures(plan.observed)
    if spent is None:
        message = "The trainer image does not tell how long it has trained since its newest commit."
        plan.condition(Condition.CHECKPOINT_FRESH, None, Reason.NOT_MEASURED, message)
        return
    old = find(plan.status.conditions, Condition.CHECKPOINT_FRESH)
    overdue = (
        f"Attempt {beat.attempt} has trained for more than {INTERVALS} intervals of "
        f"spec.checkpoint since {_newest(beat)}. If commits fail, the condition Running says why."
    )
    known = old is not None and (old.status, old.message) == ("False", overdue)
    at_risk = spent.training - min(spent.committed, spent.training)
    if known or at_risk > _longest(beat, spent, policy):
        plan.condition(Condition.CHECKPOINT_FRESH, False, Reason.COMMIT_OVERDUE, overdue)
        if old is None or old.status != "False":
            plan.say(Reason.COMMIT_OVERDUE, overdue, "Warning")
    elif beat.commit is None:
        message = "The first commit is not due yet."
        plan.condition(Condition.CHECKPOINT_FRESH, None, Reason.NO_COMMIT_YET, message)
    else:
        message = "Commits come as often as spec.checkpoint asks for."
        plan.condition(Condition.CHECKPOINT_FRESH, True, Reason.COMMITS_ON_TIME, message)


def _newest(beat: Heartbeat) -> str:
    return f"the commit of step {beat.commit.step}" if beat.commit else "it began, without a commit"


def _longest(beat: Heartbeat, spent: TrainerSeconds, policy: CheckpointPolicy) -> float:
    """Return the seconds of training after which a commit is overdue."""
    intervals: list[float] = []
    if policy.every_seconds is not None:
        intervals.append(policy.every_seconds)
    elif policy.auto is not None and beat.commit_interval is not None:
        intervals.append(beat.commit_interval.seconds)
    elif policy.every_steps is None:
        intervals.append(DEFAULT_EVERY_SECONDS)
    steps = beat.position.step - (beat.started_from.step if beat.started_from else 0)
    if policy.every_steps is not None and steps > 0:
        intervals.append(policy.every_steps * spent.training / steps)
    return INTERVALS * min(intervals, default=float("inf")) + SLACK_SECONDS
