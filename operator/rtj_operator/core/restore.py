"""Going back to a commit that the user chose, once for each time that it was asked for.

A request is taken into status first, with the number of the newest attempt: whichever attempt does
not know of it is stopped, and those after it are told. Whether it was honoured is decided on the
volume (`rtj_trainer.origin`) and comes back in the heartbeat, so nothing that happens to this
process or to an attempt can make it happen twice.
"""

from rtj_api.names import Condition, Reason
from rtj_api.restore import (
    MAX_COMMITS_SHOWN,
    RestoreOutcome,
    RestoreStatus,
    step_of,
)
from rtj_api.spec import JobSpec

from rtj_operator.core.judge import is_training
from rtj_operator.core.plan import Plan


def note(plan: Plan, spec: JobSpec) -> None:
    """Take the trainer's answer into status, and what the user wants now: a request, or none.

    The answer comes first: a request that was honoured was not withdrawn before.
    """
    _answer(plan)
    wanted, noted = spec.restore, plan.status.restore
    if wanted is None:
        _withdraw(plan)
    elif noted is None or noted.from_commit != wanted.from_commit:
        _take(plan, wanted.from_commit)


def pending(plan: Plan) -> RestoreStatus | None:
    """Return the request that no attempt has answered yet."""
    noted = plan.status.restore
    return noted if noted and noted.outcome is RestoreOutcome.PENDING else None


def must_make_room(plan: Plan) -> bool:
    """Whether the current attempt was launched before the request, and so must be stopped."""
    request, attempt = pending(plan), plan.status.attempt
    return request is not None and attempt is not None and attempt.number <= request.after_attempt


def withdrawn(plan: Plan, spec: JobSpec) -> bool:
    """Whether the current attempt was told of a request that has been taken out since."""
    return spec.restore is None and _was_told(plan)


def _was_told(plan: Plan) -> bool:
    """Whether the current attempt has, or had, a pod that was told of the open request."""
    request, attempt, observed = pending(plan), plan.status.attempt, plan.observed
    if request is None or attempt is None or attempt.number <= request.after_attempt:
        return False
    return bool(observed.pod or observed.beat or attempt.pod_uid)


def too_late(plan: Plan) -> None:
    """Say of a request that is still open when the job ends that it will not be honoured."""
    if request := pending(plan):
        message = (
            f"The job ended before an attempt could go back to commit {request.from_commit}. A "
            "finished job cannot go back: create a new one with spec.forkFrom."
        )
        _close(plan, RestoreOutcome.REFUSED, Reason.RESTORE_REQUESTED, message)


def _withdraw(plan: Plan) -> None:
    """Forget the request, but not while an attempt that was told of it can still honour it."""
    request, told = pending(plan), _was_told(plan)
    if request:
        ended = plan.status.attempts[-1].number if plan.status.attempts else 0
        message = "spec.restore was taken out before an attempt had gone back."
        if told:
            message = (
                f"spec.restore was taken out, but attempt {plan.newest_number} was launched to go "
                f"back to commit {request.from_commit}. It will say whether it has."
            )
        elif ended > request.after_attempt:
            message = (
                f"spec.restore was taken out. Attempt {ended} was launched to go back to commit "
                f"{request.from_commit}, and ended before it said whether it had."
            )
        plan.condition(Condition.RESTORED, False, Reason.RESTORE_REQUESTED, message)
    if plan.status.restore and not told:
        plan.update(restore=None)


def _take(plan: Plan, commit: str) -> None:
    request = plan.observed.job.generation
    plan.update(
        restore=RestoreStatus(from_commit=commit, request=request, after_attempt=plan.newest_number)
    )
    there = _all_commits(plan)
    if there and commit not in there:
        message = (
            f"spec.restore.fromCommit {commit!r}: this job has no such commit; there are: "
            f"{', '.join(there)}. Training goes on as if it had not been set."
        )
        _close(plan, RestoreOutcome.REFUSED, Reason.COMMIT_NOT_FOUND, message)
        return
    attempt, newest = plan.status.attempt, plan.status.last_commit
    first = f"Attempt {attempt.number} is stopped, and the" if attempt else "The"
    steps = newest.step - step_of(commit) if newest else 0
    back = f", {steps} steps before the newest" if steps > 0 else ""
    message = f"{first} next one goes on from commit {commit}{back}."
    plan.condition(Condition.RESTORED, False, Reason.RESTORE_REQUESTED, message)
    plan.say(Reason.RESTORE_REQUESTED, message)


def _all_commits(plan: Plan) -> list[str]:
    """Return all commits that there are; none if they are not known for sure.

    Only a trainer that runs knows, and it tells of the newest only.
    """
    beat = plan.observed.beat
    if beat is None or not is_training(beat) or len(beat.commits) >= MAX_COMMITS_SHOWN:
        return []
    return beat.commits


def _answer(plan: Plan) -> None:
    request, beat = pending(plan), plan.observed.beat
    answer = beat.restore if beat else None
    if not (request and beat and answer) or answer.request != request.request:
        return
    if answer.reason is Reason.RESTORED:
        # With the answer, lest the next attempt be taken for one that lost what was given up here.
        plan.update(last_commit=beat.commit or plan.status.last_commit)
        message = f"Attempt {plan.newest_number} went back to commit {request.from_commit}."
        _close(plan, RestoreOutcome.RESTORED, answer.reason, message)
    else:
        _close(plan, RestoreOutcome.REFUSED, answer.reason, answer.message)


def _close(plan: Plan, outcome: RestoreOutcome, reason: Reason, message: str) -> None:
    noted, done = plan.status.restore, outcome is RestoreOutcome.RESTORED
    if noted:
        plan.update(restore=noted.model_copy(update={"outcome": outcome}))
    plan.condition(Condition.RESTORED, done, reason, message)
    plan.say(reason, message, "Normal" if done else "Warning")
