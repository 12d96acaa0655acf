"""The condition Progressing: whether steps are being taken, or an attempt is on its way to them.

It is a word for people and alarms, long before a hang is acted upon, and decides nothing. So that
it does not flap, a standstill that was called one stays one until phase or step has changed,
whatever a new operator process, or a mean that has moved, would say.
"""

from rtj_api.heartbeat import Heartbeat, TrainerPhase
from rtj_api.names import Condition, Reason
from rtj_api.run_policy import HangPolicy
from rtj_api.status import CurrentAttempt

from rtj_operator.core import hang
from rtj_operator.core.conditions import find, is_true
from rtj_operator.core.observed import Pod
from rtj_operator.core.plan import Plan

LONGEST_SCHEDULING_SECONDS = 60.0
"""A pod that has no node by then is waiting for more than the scheduler's attention."""

LONGEST_START_SECONDS = 300.0
"""An image of some gigabytes takes minutes."""

SHORTEST_STANDSTILL_SECONDS = 60.0
USUAL_STEPS = 10
"""A standstill is as long as so many steps usually are; fewer steps have no usual length."""


def show_progressing(plan: Plan) -> None:
    """Set the condition from the status in the making, and say what somebody must act on."""
    attempt, pod = plan.status.attempt, plan.observed.pod
    if attempt and pod and pod.name != attempt.pod_name:
        pod = None  # It was the last attempt's; the next one is decided on in this turn.
    if attempt is None or (plan.observed.job.spec is None and not plan.attempt_lives):
        _rests(plan)
    elif pod and pod.deleting and pod.node:
        return  # It goes on or ends within its grace period; either will be said.
    elif not _waits(plan, attempt, pod) and not _stands_still(plan, attempt, pod):
        reason = Reason.TRAINING if attempt.running_time else Reason.WAITING_FOR_PODS
        plan.condition(Condition.PROGRESSING, True, reason, f"Attempt {attempt.number} goes on.")


def _rests(plan: Plan) -> None:
    """Tell why nothing trains, in the words of the condition Running."""
    running = find(plan.status.conditions, Condition.RUNNING)
    if running is None:
        return
    resting = plan.status.phase.final or is_true(plan.status.conditions, Condition.SUSPENDED)
    backs_off = plan.status.next_attempt_time is not None and not resting
    reason = Reason.BACK_OFF if backs_off else running.reason
    plan.condition(Condition.PROGRESSING, False, reason, running.message)


def _waits(plan: Plan, attempt: CurrentAttempt, pod: Pod | None) -> bool:
    """Show an attempt whose pod cannot be created, placed or started."""
    running = find(plan.status.conditions, Condition.RUNNING)
    if attempt.running_time or running is None:
        return False
    if running.reason is not Reason.WAITING_FOR_PODS:
        plan.condition(Condition.PROGRESSING, False, running.reason, running.message)
        return True
    if pod is None:
        # No event tells of a pod that nobody schedules.
        plan.wake(LONGEST_SCHEDULING_SECONDS)
        return False
    if pod.started:
        return False
    left, message = _patience(plan, attempt, pod)
    if left > 0:
        plan.wake(left)
        return False
    _warn(plan, Reason.WAITING_FOR_PODS, message)
    return True


def _patience(plan: Plan, attempt: CurrentAttempt, pod: Pod) -> tuple[float, str]:
    """Return for how many seconds it is nothing unusual that the pod waits, and what it is then."""
    if pod.node:
        left = LONGEST_START_SECONDS - plan.observed.silence.placed
        return left, (
            f"Pod {pod.name} has been on node {pod.node} for more than "
            f"{LONGEST_START_SECONDS:.0f} s, and its trainer has not started. "
            f"`kubectl describe pod {pod.name}` may say why."
        )
    if pod.deleting:
        left = LONGEST_SCHEDULING_SECONDS - plan.observed.silence.terminating
        return left, (
            f"Pod {pod.name} was deleted before it had a node, and one of its finalizers keeps it. "
            "The pod is made again once it is gone."
        )
    # A pod that was deleted before it had a node was made again since.
    since = max(attempt.decided_time, pod.created_time or attempt.decided_time)
    left = LONGEST_SCHEDULING_SECONDS - (plan.now - since).total_seconds()
    return left, (
        f"Pod {pod.name} has had no node for more than {LONGEST_SCHEDULING_SECONDS:.0f} s. "
        "The condition Running has the scheduler's words."
    )


def _stands_still(plan: Plan, attempt: CurrentAttempt, pod: Pod | None) -> bool:
    """Show a trainer that has taken no step for longer than its steps usually take."""
    observed, spec = plan.observed, plan.observed.job.spec
    if pod is None or not pod.started or spec is None or observed.job.status.attempt is None:
        return False
    beat = observed.beat or Heartbeat(attempt=attempt.number, phase=TrainerPhase.STARTING)
    message = (
        f"Attempt {attempt.number} stands still in phase {beat.phase} at step "
        f"{beat.position.step} for longer than usual. spec.hangPolicy says when it is replaced."
    )
    left = _longest_standstill(beat, spec.hang_policy, observed.silence.progress)
    left -= observed.silence.progress
    old = find(observed.job.status.conditions, Condition.PROGRESSING)
    known = old is not None and (old.status, old.message) == ("False", message)
    if left > 0 and not known:
        plan.wake(left)
        return False
    _warn(plan, Reason.NO_NEW_STEP, message)
    return True


def _longest_standstill(beat: Heartbeat, policy: HangPolicy, standing: float) -> float:
    """Return the seconds without a change of phase or step that are nothing unusual."""
    longest = max(hang.timeout_of(beat.phase, policy) / 2, SHORTEST_STANDSTILL_SECONDS)
    steps = beat.position.step - (beat.started_from.step if beat.started_from else 0)
    if beat.phase is not TrainerPhase.TRAINING or beat.spent is None or steps < USUAL_STEPS:
        return longest
    usual = USUAL_STEPS * max(beat.spent.training - standing, 0.0) / steps
    return min(max(usual, SHORTEST_STANDSTILL_SECONDS), longest)


def _warn(plan: Plan, reason: Reason, message: str) -> None:
    old = find(plan.observed.job.status.conditions, Condition.PROGRESSING)
    plan.condition(Condition.PROGRESSING, False, reason, message)
    if old is None or (old.status, old.reason) != ("False", reason):
        plan.say(reason, message, "Warning")
