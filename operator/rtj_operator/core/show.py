"""What people see of a decision: phase, conditions and Events."""

from rtj_api.heartbeat import FinalRecord, Heartbeat
from rtj_api.names import Cause, Condition, Phase, Reason
from rtj_api.status import CurrentAttempt

from rtj_operator.core import regression, restore, spec_changes
from rtj_operator.core.classify import Ending
from rtj_operator.core.conditions import find
from rtj_operator.core.judge import Stand, Verdict
from rtj_operator.core.observed import Problem
from rtj_operator.core.plan import Plan


def standing(plan: Plan, verdict: Verdict) -> None:
    """Show a live attempt."""
    if verdict.stand is Stand.TRAINING:
        _training(plan)
    elif verdict.stand is Stand.STARTING:
        _starting(plan, verdict)


def _starting(plan: Plan, verdict: Verdict) -> None:
    if plan.status.attempt and plan.status.attempt.running_time:
        return  # It trained already; only its Lease is missing.
    old = find(plan.status.conditions, Condition.RUNNING)
    problem = verdict.reason is not Reason.WAITING_FOR_PODS
    if problem and old and old.reason is verdict.reason:
        return  # The kubelet words the same failure anew at each try; the first wording stays.
    plan.condition(Condition.RUNNING, False, verdict.reason, verdict.message)
    if problem:
        plan.say(verdict.reason, verdict.message, "Warning")


def _training(plan: Plan) -> None:
    attempt, beat = plan.status.attempt, plan.observed.beat
    if attempt is None or beat is None:
        return
    message = f"Attempt {attempt.number} trains on node {attempt.node_name}."
    message += _change_that_waits(plan)
    told = _told_of_training(plan)
    if told.startswith(message) and not plan.writes:
        return  # Whatever it warns of now: that may change with each commit, and can wait.
    warning = _warning(plan, beat)
    if warning:
        message += f" {warning.reason}: {warning.message}"
    plan.condition(Condition.RUNNING, True, Reason.TRAINING, message)
    if plan.status.phase is not Phase.RUNNING:
        plan.update(phase=Phase.RUNNING)
        verb = "resumed" if attempt.first_step else "started"
        text = f"Training {verb} at step {attempt.first_step} on node {attempt.node_name}."
        plan.say(Reason.TRAINING, f"Attempt {attempt.number}: {text}")
    if plan.is_true(Condition.RESTARTING):
        plan.condition(Condition.RESTARTING, False, Reason.TRAINING, message)
    if warning and f" {warning.reason}: " not in told:
        plan.say(warning.reason, warning.message, "Warning", once=True)


def _warning(plan: Plan, beat: Heartbeat) -> FinalRecord | None:
    """Return what the trainer warns of, unless a condition of its own says it."""
    warning = beat.warning
    if warning and warning.reason is Reason.POSITION_REGRESSED:
        return warning if regression.lost_step(plan.status, beat) is None else None
    return warning


def _told_of_training(plan: Plan) -> str:
    """Return what the condition Running says of an attempt that trains; empty of any other."""
    old = find(plan.status.conditions, Condition.RUNNING)
    return old.message if old and old.reason is Reason.TRAINING else ""


def _change_that_waits(plan: Plan) -> str:
    """Say that the spec changed in what the attempt was launched with; empty if it did not."""
    spec, attempt = plan.observed.job.spec, plan.status.attempt
    if spec is None or attempt is None or not spec_changes.waits(attempt, spec):
        return ""
    text = (
        f"The spec changed after generation {attempt.generation}; the change applies from the next "
        f"attempt. To apply it now, delete pod {attempt.pod_name} (the trainer commits first)."
    )
    old = find(plan.status.conditions, Condition.RUNNING)
    if old is None or text not in old.message:
        plan.say(Reason.SPEC_CHANGED, text)
    return f" {text}"


def goes_on(plan: Plan, attempt: CurrentAttempt, target: str) -> None:
    """Show that an attempt reached its end, but that the training has another one by now."""
    text = f"Attempt {attempt.number} reached {attempt.target}; the spec says {target} now."
    plan.say(Reason.SPEC_CHANGED, f"{text} Attempt {attempt.number + 1} goes on from there.")


def origin(plan: Plan) -> str:
    """Say where the next attempt starts from."""
    commit, fork = plan.status.last_commit, plan.status.forked_from
    if request := restore.pending(plan):
        return f"commit {request.from_commit}, as spec.restore says"
    if fork and commit is None:
        return f"commit {fork.commit} of job {fork.job_name or fork.job_uid}"
    return f"the commit of step {commit.step}" if commit else "step 0, since there is no commit"


def ended(plan: Plan, number: int, ending: Ending) -> None:
    """Show that an attempt ended and another will follow."""
    due = plan.status.next_attempt_time
    when = f"in {(due - plan.now).total_seconds():.0f} s" if due else "now"
    message = (
        f"Attempt {number} ended ({ending.cause}): {ending.message.rstrip(' .')}. "
        f"Attempt {number + 1} starts {when} from {origin(plan)}."
    )
    plan.condition(Condition.RUNNING, False, ending.reason, message)
    if ending.cause is Cause.SUSPENDED:
        return
    plan.update(phase=Phase.RESTARTING)
    plan.condition(Condition.RESTARTING, True, ending.reason, message)
    plan.say(ending.reason, message, "Warning")


def suspended(plan: Plan) -> None:
    """Show that the job rests, and at which position."""
    message = f"spec.runPolicy.suspend is true. {_resting_place(plan)}"
    plan.update(phase=Phase.SUSPENDED)
    if not plan.is_true(Condition.SUSPENDED):
        plan.say(Reason.SUSPENDED_BY_USER, message)
    plan.condition(Condition.SUSPENDED, True, Reason.SUSPENDED_BY_USER, message)
    plan.condition(Condition.RUNNING, False, Reason.SUSPENDED_BY_USER, message)
    if find(plan.status.conditions, Condition.RESTARTING):
        plan.condition(Condition.RESTARTING, False, Reason.SUSPENDED_BY_USER, message)
    due = plan.status.next_attempt_time
    if due and plan.now < due:
        plan.wake((due - plan.now).total_seconds())
    else:
        plan.update(next_attempt_time=None)


def deleted(plan: Plan) -> None:
    """Show that the job ends here, though its object may stay for as long as a finalizer wants."""
    message = "The job was deleted. It launches nothing more, and goes with its last finalizer."
    if plan.status.phase is not Phase.SUSPENDED:
        plan.update(phase=Phase.PENDING)
    plan.update(next_attempt_time=None)
    plan.condition(Condition.RUNNING, False, Reason.JOB_DELETED, message)
    if find(plan.status.conditions, Condition.RESTARTING):
        plan.condition(Condition.RESTARTING, False, Reason.JOB_DELETED, message)


def _resting_place(plan: Plan) -> str:
    commit, position = plan.status.last_commit, plan.status.position
    place = f"The next attempt starts from {origin(plan)}."
    behind = position.step - commit.step if commit and position else 0
    if behind > 0 and not restore.pending(plan):
        place += f" The {behind} steps after it were not committed, and will be trained again."
    return place


def resumed(plan: Plan) -> None:
    """Show that a job that rested goes on, though its next attempt may have to wait."""
    if not plan.is_true(Condition.SUSPENDED):
        return
    message = "spec.runPolicy.suspend is false again."
    plan.condition(Condition.SUSPENDED, False, Reason.RESUMED, message)
    plan.say(Reason.RESUMED, message)
    if due := plan.status.next_attempt_time:
        message += f" The next attempt starts in {(due - plan.now).total_seconds():.0f} s."
    plan.condition(Condition.RUNNING, False, Reason.RESUMED, message)
    plan.update(phase=_phase_without_attempt(plan))


def _phase_without_attempt(plan: Plan) -> Phase:
    return Phase.RESTARTING if plan.next_is_restart else Phase.PENDING


def blocked(plan: Plan, problem: Problem) -> None:
    """Show what keeps the next pod from being created; it is looked for again."""
    _warn_once(plan, problem.reason, problem.message)
    plan.condition(Condition.RUNNING, False, problem.reason, problem.message)
    if plan.status.attempt is None:
        plan.update(phase=_phase_without_attempt(plan))
    plan.wake(plan.observed.refused_for or plan.observed.settings.recheck_interval)


def invalid(plan: Plan) -> None:
    """Show that the spec of a job with attempts cannot be read, and leave all else as it is.

    To fail would be final, and a fixed spec is all that the job needs to go on.
    """
    message = (
        f"{plan.observed.job.spec_error.rstrip(' .')}. The job is left as it is, and a pod that "
        "ends is not replaced, until the spec is fixed; the job then goes on by itself."
    )
    _warn_once(plan, Reason.INVALID_SPEC, message)
    runs = plan.attempt_lives and plan.is_true(Condition.RUNNING)
    plan.condition(Condition.RUNNING, runs, Reason.INVALID_SPEC, message)


def _warn_once(plan: Plan, reason: Reason, message: str) -> None:
    """Say it unless the condition Running does already."""
    old = find(plan.status.conditions, Condition.RUNNING)
    if old is None or (old.reason, old.message) != (reason, message):
        plan.say(reason, message, "Warning")
