"""The operator's whole behaviour: one look at a job in, one decision out.

Read it top to bottom: a finished job is only cleaned up; else the current attempt is judged, an
ended one is settled, and then the job is paused, its next attempt launched, or its state shown.
A job that is being deleted may be kept by a finalizer: it is looked after, and launched no more.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from rtj_api.failure import RuleAction
from rtj_api.names import Cause, Phase, Reason
from rtj_api.spec import JobSpec

from rtj_operator.core import regression, restore, show, spec_changes
from rtj_operator.core.budget import Charge, charge
from rtj_operator.core.classify import Ending
from rtj_operator.core.decision import AskForStacks, Decision, DeleteJob, DeletePod
from rtj_operator.core.failure_rules import ruling_on
from rtj_operator.core.freshness import show_freshness
from rtj_operator.core.judge import Stand, Verdict, judge
from rtj_operator.core.launch import create_pod, launch
from rtj_operator.core.limits import until_deadline, until_removal
from rtj_operator.core.objects import beside_pod
from rtj_operator.core.observed import Observed
from rtj_operator.core.plan import Plan
from rtj_operator.core.progress import (
    identified,
    late_fields,
    mirror_due,
    mirrored_fields,
    progressed,
    run_by,
    until_identified,
)
from rtj_operator.core.progressing import show_progressing

ROOM_BEFORE_RULE = 1800
"""Characters of an ending's message that leave room for the rule that decided about it."""

KEPT_PODS = 3
"""Ended pods of the newest attempts stay for their logs."""


def decide(observed: Observed, now: datetime) -> Decision:
    """Decide what to write, do and say about a job.

    `now` is timezone-aware. Pure: the same arguments give the same decision.
    """
    plan = Plan(observed, now)
    if observed.job.orphans:
        return Decision(observed.job.status)
    if not plan.status.phase.final:
        _advance(plan)
        show_progressing(plan)
    if plan.status.phase.final:
        _hear_last_words(plan)
        restore.too_late(plan)
        if not observed.job.deleting:
            _expire(plan)
    _sweep(plan)
    return plan.decision()


def _advance(plan: Plan) -> None:
    observed, spec = plan.observed, plan.observed.job.spec
    if spec is None:
        _refuse(plan)
        return
    verdict = judge(observed, spec) if plan.status.attempt else None
    restore.note(plan, spec)
    _mirror(plan, spec, last_chance=verdict is not None and verdict.ending is not None)
    if verdict and verdict.ending:
        _settle(plan, spec, verdict.ending)
        verdict = None
    if plan.status.phase.final or _out_of_time(plan, spec):
        return
    if observed.job.deleting:
        if _stopped(plan, verdict, Reason.JOB_DELETED):
            show.deleted(plan)
        return
    if spec.run_policy.suspend:
        if _stopped(plan, verdict, Reason.SUSPENDED_BY_USER):
            show.suspended(plan)
        return
    if stop := spec_changes.why_stopped(plan, spec):
        if not _stopped(plan, verdict, *stop):
            return
        verdict = None
    show.resumed(plan)
    _go_on(plan, spec, verdict)


def _refuse(plan: Plan) -> None:
    """End a job whose spec cannot be read, unless it has had attempts."""
    if plan.newest_number:
        show.invalid(plan)
    else:
        plan.finish(Phase.FAILED, Reason.INVALID_SPEC, plan.observed.job.spec_error)


def _go_on(plan: Plan, spec: JobSpec, verdict: Verdict | None) -> None:
    """Launch the next attempt, or show how the current one stands."""
    observed = plan.observed
    if verdict is None:
        launch(plan, spec)
    elif verdict.stand is Stand.ABSENT:
        create_pod(plan, spec)
    else:
        show.standing(plan, verdict)
        if not observed.lease_found or verdict.question:
            # A trainer that lost its right to the Lease looks like one that hangs.
            plan.act(beside_pod(observed.job))
        if verdict.question:
            plan.act(AskForStacks(verdict.question))
        plan.wake(verdict.recheck)


def _mirror(plan: Plan, spec: JobSpec, *, last_chance: bool) -> None:
    """Take the heartbeat's words into status, as often as they are worth a write."""
    observed, beat, attempt = plan.observed, plan.observed.beat, plan.status.attempt
    if attempt is None:
        return
    attempt = identified(attempt, observed)
    plan.update(attempt=attempt)
    if attempt.pod_uid is None:
        plan.wake(until_identified(observed))
    if beat is None:
        return
    regression.show(plan, beat)
    if last_chance or mirror_due(observed):
        plan.update(**mirrored_fields(beat, plan.status, spec.total_steps, plan.now))
        show_freshness(plan, spec.checkpoint)
        plan.mirrored = True
    else:
        plan.wake(observed.settings.mirror_interval - observed.since_mirrored)


def _settle(plan: Plan, spec: JobSpec, ending: Ending) -> None:
    """Record what ended the attempt, charge it, and end the job if nothing is left to try."""
    ending = _as_wished(plan, spec, ending)
    ruling = ruling_on(ending, plan.observed.last_pod, spec)
    if ruling:
        ending = replace(ending, rule_action=ruling.action)
    if ruling and ruling.action is not RuleAction.FAIL:
        told = f"{ending.message[:ROOM_BEFORE_RULE].rstrip(' .')}. {ruling.where}: {ruling.action}."
        ending = replace(ending, message=told)
    before = plan.status.attempts[-1].committed_step if plan.status.attempts else None
    moved = progressed(plan.observed.beat, before)
    number, attempt = plan.newest_number, plan.status.attempt
    plan.close_attempt(ending)
    restore.note(plan, spec)  # An attempt that is over can answer no request any more.
    if ending.cause is Cause.COMPLETED and attempt and spec_changes.target_moved(attempt, spec):
        in_a_row = {"never_started": 0} | ({"no_progress": 0} if moved else {})
        plan.update(restarts=plan.status.restarts.model_copy(update=in_a_row))
        show.goes_on(plan, attempt, spec_changes.target(spec))
        return
    if ending.cause is Cause.COMPLETED:
        plan.finish(Phase.COMPLETED, Reason.COMPLETED, ending.message)
        return
    if ending.cause is Cause.PERMANENT:
        plan.finish(Phase.FAILED, ending.reason, ending.message)
        return
    item = Charge(
        ending, plan.status.attempts, moved, plan.now, plan.observed.job.uid, ruling=ruling
    )
    bill = charge(plan.status.restarts, item, spec)
    plan.update(restarts=bill.restarts)
    if bill.failure:
        plan.finish(Phase.FAILED, *bill.failure)
        return
    if bill.delay:
        plan.update(next_attempt_time=plan.now + timedelta(seconds=bill.delay))
    show.ended(plan, number, ending)


def _as_wished(plan: Plan, spec: JobSpec, ending: Ending) -> Ending:
    """Return the ending, unless the user wanted the attempt to make room: that costs nothing."""
    if ending.cause is not Cause.PREEMPTED:
        return ending
    if plan.observed.job.deleting:
        return replace(ending, cause=Cause.SUSPENDED, reason=Reason.JOB_DELETED)
    if spec.run_policy.suspend:
        return replace(ending, cause=Cause.SUSPENDED, reason=Reason.SUSPENDED_BY_USER)
    if stop := spec_changes.why_stopped(plan, spec):
        reason, why = stop
        return replace(
            ending, cause=Cause.SUSPENDED, reason=reason, message=f"{why} {ending.message}"
        )
    return ending


def _out_of_time(plan: Plan, spec: JobSpec) -> bool:
    left = until_deadline(spec.run_policy, plan.status, plan.now)
    if left is not None and left <= 0:
        limit = spec.run_policy.active_deadline_seconds
        message = f"Not complete after spec.runPolicy.activeDeadlineSeconds {limit}."
        plan.finish(Phase.FAILED, Reason.DEADLINE_EXCEEDED, message)
        return True
    plan.wake(left)
    return False


def _stopped(plan: Plan, verdict: Verdict | None, reason: Reason, why: str = "") -> bool:
    """Ask the pod to commit and go; return whether it has gone.

    That it goes for a change of the spec is kept: its trainer may begin before it is asked.
    """
    pod, attempt = plan.observed.pod, plan.status.attempt
    if verdict is None or verdict.stand is Stand.ABSENT:
        if verdict:
            plan.close_attempt(Ending(Cause.SUSPENDED, reason, "Never started.", started=False))
            if plan.observed.problems:
                # They may keep but its own pod from being made, and no other attempt's.
                plan.wake(0.0)
        return True
    if pod and not pod.deleting:
        if attempt and pod.node:
            told = why if reason is Reason.SPEC_CHANGED else None
            stopped = run_by(attempt, pod).model_copy(update={"stop_message": told})
            plan.update(attempt=stopped)
        plan.act(DeletePod(pod.name, pod.uid))
    plan.wake(verdict.recheck)
    return False


def _hear_last_words(plan: Plan) -> None:
    spec, beat = plan.observed.job.spec, plan.observed.heartbeat
    total = spec.total_steps if spec else None
    if beat and beat.attempt == plan.newest_number:
        regression.show(plan, beat)
    plan.update(**late_fields(beat, plan.status, total))


def _expire(plan: Plan) -> None:
    spec = plan.observed.job.spec
    left = until_removal(spec.run_policy, plan.status, plan.now) if spec else None
    if left is not None and left <= 0:
        plan.act(DeleteJob())
    plan.wake(left)


def _sweep(plan: Plan) -> None:
    """Delete pods that no longer speak for the job; a dead node's may hang, nobody waits for it.

    One whose companion containers run on goes too: it holds what the next attempt needs.
    """
    attempt, newest = plan.status.attempt, plan.newest_number
    for pod in plan.observed.pods:
        current = (
            attempt is not None
            and pod.name == attempt.pod_name
            and attempt.pod_uid in (None, pod.uid)
        )
        stale = pod.attempt <= newest - KEPT_PODS if pod.spent else True
        if not current and stale and not pod.deleting:
            plan.act(DeletePod(pod.name, pod.uid))
