"""A trainer that is alive but stands still: asked for its stacks, then replaced.

Standing still means that neither phase nor step has changed for as long as the phase's timeout in
`spec.hangPolicy`. That a heartbeat arrives proves nothing, since a thread of its own sends it; that
none arrives while the node is alive is a hang too, of a process in which no thread gets to run.

The pod goes only after the trainer was asked where it hangs, and a trainer that moves after all
while it is asked is left alone. The wait is short and has an end whatever fails.
"""

from dataclasses import replace

from rtj_api.heartbeat import Heartbeat, TrainerPhase
from rtj_api.names import Cause, Reason
from rtj_api.run_policy import HangPolicy
from rtj_api.spec import JobSpec

from rtj_operator.core.classify import Ending, classify
from rtj_operator.core.observed import ContainerExit, Observed, Pod

ANSWER_SECONDS = 10.0
"""A trainer sees the question at its next beat, 5 s later at most, and answers at once. One that is
too stuck for it has a watchdog, which writes within this time. It begins with the question."""

GIVE_UP_SECONDS = 30.0
"""If the question cannot even be written, the pod goes without one after this long."""

_FIELDS = {
    TrainerPhase.STARTING: "startingTimeoutSeconds",
    TrainerPhase.RESTORING: "restoringTimeoutSeconds",
    TrainerPhase.TRAINING: "trainingTimeoutSeconds",
    TrainerPhase.SAVING: "savingTimeoutSeconds",
    TrainerPhase.FINISHED: "savingTimeoutSeconds",
}


def timeout_of(phase: TrainerPhase, policy: HangPolicy) -> int:
    """Return for how many seconds a trainer may stand still in a phase."""
    match phase:
        case TrainerPhase.STARTING:
            return policy.starting_timeout_seconds
        case TrainerPhase.RESTORING:
            return policy.restoring_timeout_seconds
        case TrainerPhase.TRAINING:
            return policy.training_timeout_seconds
        case TrainerPhase.SAVING | TrainerPhase.FINISHED:
            return policy.saving_timeout_seconds


def until_hung(observed: Observed, pod: Pod, policy: HangPolicy) -> float:
    """Seconds until the trainer counts as hung; 0 or less when it does."""
    timeout = timeout_of(_last_beat(observed).phase, policy)
    if not pod.started:
        return timeout
    return timeout - observed.silence.progress


def until_replaced(observed: Observed, pod: Pod, policy: HangPolicy) -> float:
    """Seconds until a hung trainer is not waited for any longer; 0 or less when it is not."""
    beat = _last_beat(observed)
    answered = beat.stacks is not None and beat.stacks.standstill == beat.standstill
    if answered or beat.final:
        return 0.0
    hung = -until_hung(observed, pod, policy)
    if not _is_asked(observed):
        return GIVE_UP_SECONDS - hung
    # A question may come late, or be left over from when it stood there before and moved on.
    return ANSWER_SECONDS - min(hung, observed.silence.asked)


def question(observed: Observed) -> str | None:
    """Return the standstill that the trainer is still to be asked about."""
    return None if _is_asked(observed) else _last_beat(observed).standstill


def ending(observed: Observed, pod: Pod, spec: JobSpec) -> Ending:
    """Return what is recorded of a hung attempt: where it stood, and where its stacks are."""
    beat = _last_beat(observed)
    if beat.final:
        # It said how it ended, and only its process does not: that is no matter of the cluster's.
        return classify(replace(pod, exit=ContainerExit(beat.final.exit_code)), beat.final)
    field = _FIELDS[beat.phase]
    seconds = timeout_of(beat.phase, spec.hang_policy)
    where = (
        f"in phase {beat.phase} at step {beat.position.step}"
        if observed.beat
        else "from the start of its container, without a heartbeat,"
    )
    message = f"The trainer stood still {where} for {seconds} s (spec.hangPolicy.{field}). "
    message += _where_its_stacks_are(observed, beat, spec.checkpoint.claim_name)
    return Ending(Cause.HUNG, Reason.TRAINER_HUNG, message)


def _where_its_stacks_are(observed: Observed, beat: Heartbeat, claim: str) -> str:
    if beat.stacks and beat.stacks.standstill == beat.standstill:
        if beat.stacks.path:
            return f"Its stacks are in {beat.stacks.path} on claim {claim}."
        return "Its stacks are in the log of its pod."
    unanswered = (
        f"It did not say where; its last heartbeat was {observed.silence.heartbeat:.0f} s ago."
    )
    if beat.watchdog_path:
        where = f"{beat.watchdog_path} on claim {claim}"
        return f"{unanswered} If the process was stuck, a watchdog wrote its stacks to {where}."
    return unanswered


def _is_asked(observed: Observed) -> bool:
    return observed.stacks_asked == _last_beat(observed).standstill


def _last_beat(observed: Observed) -> Heartbeat:
    """Return the attempt's last beat; before its first, the one that is due."""
    attempt = observed.job.status.attempt
    number = attempt.number if attempt else 1
    return observed.beat or Heartbeat(attempt=number, phase=TrainerPhase.STARTING)
