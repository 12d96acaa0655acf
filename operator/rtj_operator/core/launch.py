"""The next attempt: when it may start, what must be there first, and its pod."""

from dataclasses import replace
from datetime import datetime

from rtj_api.failure import RuleAction
from rtj_api.names import Cause, Condition, Phase, Reason
from rtj_api.restore import ForkStatus
from rtj_api.spec import JobSpec
from rtj_api.status import CurrentAttempt, EndedAttempt, JobStatus
from rtj_api.time_spent import TimeSpent

from rtj_operator.core import show, spec_changes
from rtj_operator.core.conditions import find
from rtj_operator.core.decision import CreatePod
from rtj_operator.core.judge import starting_message
from rtj_operator.core.objects import before_pod
from rtj_operator.core.observed import Problem
from rtj_operator.core.plan import Plan
from rtj_operator.core.podspec import MalformedTemplateError, Places, pod_manifest, pod_name

AVOID_SECONDS = 600
"""How long a node is held against itself."""

REJECTIONS = (Reason.POD_REJECTED, Reason.POD_NAME_TAKEN)


def launch(plan: Plan, spec: JobSpec) -> None:
    """Decide on the next attempt, unless it must wait."""
    status, now = plan.status, plan.now
    due = status.next_attempt_time
    if due and now < due and not _was_set_back(status, now):
        plan.wake((due - now).total_seconds())
        return
    if plan.observed.problems:
        show.blocked(plan, plan.observed.problems[0])
        return
    if spec.fork_from and not _fork(plan, spec):
        return
    number = next_number(plan)
    plan.account()
    restart = plan.next_is_restart
    plan.update(
        attempt=CurrentAttempt(
            number=number,
            pod_name=pod_name(plan.observed.job.name, number),
            decided_time=now,
            time=TimeSpent(),
        ),
        phase=Phase.RESTARTING if restart else Phase.STARTING,
        start_time=status.start_time or now,
        time=plan.status.time or TimeSpent(),
        next_attempt_time=None,
    )
    if not (restart and status.attempts[-1].end_time == now):
        # The Event of an ending that is answered at once has said it already.
        plan.say(Reason.ATTEMPT_LAUNCHED, f"Attempt {number} starts from {show.origin(plan)}.")
    create_pod(plan, spec, proven=_account_works(plan))


def _was_set_back(status: JobStatus, now: datetime) -> bool:
    """Whether the clock is before the last end, so that nobody knows how long the pause lasted."""
    return bool(status.attempts) and now < status.attempts[-1].end_time


def _account_works(plan: Plan) -> bool:
    """Whether the last attempt's trainer wrote to the Lease: then all that it needs is there.

    So a relaunch need not look. Should something have gone since, that attempt says nothing any
    more and ends as hung, or its pod is refused; then it is looked for, and made again.
    """
    beat, ended = plan.observed.heartbeat, plan.status.attempts
    return (
        beat is not None
        and bool(ended)
        and beat.attempt == ended[-1].number
        and ended[-1].cause is not Cause.HUNG
    )


def next_number(plan: Plan) -> int:
    """Return a number above every one that was ever used, even if status was lost.

    After the cluster was restored from a backup, the volume knows numbers that nothing else does; a
    trainer that met one said so in its last word.
    """
    beat, pods = plan.observed.heartbeat, plan.observed.pods
    words = [beat.final if beat else None, *(pod.exit.final for pod in pods if pod.exit)]
    seen = [
        plan.newest_number,
        beat.attempt if beat else 0,
        *(pod.attempt for pod in pods),
        *(final.newest_attempt or 0 for final in words if final),
    ]
    return max(seen) + 1


def create_pod(plan: Plan, spec: JobSpec, *, proven: bool = False) -> None:
    """Create the pod of the attempt that status names, and what it needs unless that is proven."""
    observed, attempt = plan.observed, plan.status.attempt
    if attempt is None:
        return
    if observed.problems:
        show.blocked(plan, observed.problems[0])
        return
    attempt = attempt.model_copy(update=spec_changes.fields_at_launch(plan, spec))
    plan.update(attempt=attempt)
    running = find(plan.status.conditions, Condition.RUNNING)
    if running and running.reason in REJECTIONS:
        # It stays in sight until a pod is really there, which the next look finds.
        plan.wake(0.0)
    else:
        message = starting_message(attempt.pod_name)
        plan.condition(Condition.RUNNING, False, Reason.WAITING_FOR_PODS, message)
    job = replace(observed.job, status=plan.status)
    try:
        manifest = pod_manifest(job, spec, attempt.number, observed.settings, places(plan))
    except MalformedTemplateError as error:
        show.blocked(plan, Problem(Reason.POD_REJECTED, str(error)))
        return
    if not proven:
        plan.act(before_pod(observed.job))
    plan.act(CreatePod(manifest))


def _fork(plan: Plan, spec: JobSpec) -> bool:
    """Write down which job a fork starts from, by uid, so that it is decided once."""
    wanted, uid = spec.fork_from, plan.observed.fork_uid
    if wanted is None or plan.status.forked_from:
        return True
    if uid is None:
        plan.wake(plan.observed.settings.recheck_interval)
        return False
    origin = ForkStatus(job_name=wanted.job_name, job_uid=uid, commit=wanted.commit)
    plan.update(forked_from=origin)
    return True


def places(plan: Plan) -> Places:
    """Return which nodes the next pod should avoid, and which it should prefer.

    A volume that only one node can have is on the last one, or on its way from there: going on
    there saves detaching it. That is a wish only, since a node that is full or cordoned must not
    keep the job waiting.
    """
    avoid = nodes_to_avoid(plan)
    last = plan.status.attempts[-1] if plan.status.attempts else None
    stays = plan.observed.exclusive_claim and last is not None and last.node_name not in avoid
    return Places(avoid, last.node_name if last and stays else None)


def nodes_to_avoid(plan: Plan) -> list[str]:
    """Return the nodes that attempts were lost with of late, if a node was to blame; newest first.

    Without an end to it, a node that was repaired would stay idle; and of two nodes that fail in
    turn, the one that failed earlier is the better.
    """
    blamed = [
        ended.node_name
        for ended in reversed(plan.status.attempts)
        if _node_is_to_blame(ended)
        if (plan.now - ended.end_time).total_seconds() < AVOID_SECONDS and ended.node_name
    ]
    return list(dict.fromkeys(blamed))


def _node_is_to_blame(ended: EndedAttempt) -> bool:
    """Whether the attempt may do better elsewhere; that is what a rule means by Recreate."""
    return (
        ended.cause is Cause.HUNG
        or ended.reason in (Reason.NODE_LOST, Reason.EVICTED)
        or ended.rule_action == RuleAction.RECREATE
    )
