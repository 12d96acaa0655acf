"""How the current attempt stands, from its pod, its heartbeat and their silence."""

from dataclasses import dataclass
from enum import Enum, auto

from rtj_api.heartbeat import Heartbeat, TrainerPhase
from rtj_api.names import Reason
from rtj_api.spec import JobSpec

from rtj_operator.core import hang, liveness, unstartable
from rtj_operator.core.classify import Ending, classify
from rtj_operator.core.observed import Observed, Pod

ORDINARY_WAITING = ("", "ContainerCreating", "PodInitializing")


class Stand(Enum):
    """Where an attempt is in its life."""

    ABSENT = auto()
    """Its pod was never seen and is not there: create it."""
    STARTING = auto()
    TRAINING = auto()
    STOPPING = auto()
    """The pod is terminating; its last commit is worth waiting for."""
    ENDED = auto()


@dataclass(frozen=True)
class Verdict:
    """How an attempt stands."""

    stand: Stand
    ending: Ending | None = None
    """Set if and only if it has ended."""
    reason: Reason = Reason.WAITING_FOR_PODS
    message: str = ""
    """While starting: what it waits for."""
    recheck: float | None = None
    """Seconds until silence alone can change the verdict."""
    question: str | None = None
    """The standstill that a hung trainer is to be asked about before it is replaced."""


def judge(observed: Observed, spec: JobSpec) -> Verdict:
    """Judge the current attempt; there must be one."""
    pod = observed.pod
    if observed.absent:
        return Verdict(Stand.ABSENT)
    if pod is None or pod.ended:
        return _ended(observed)
    if liveness.node_is_dead(observed, pod):
        return _ended(observed, node_lost=True)
    recheck = liveness.until_node_is_dead(observed)
    if pod.deleting and pod.node is None:
        return Verdict(Stand.STOPPING)  # Nothing is lost with it, so it is made again once gone.
    if pod.deleting:
        grace = liveness.until_grace_is_over(observed, pod)
        if grace <= 0:
            return _ended(observed)
        return Verdict(Stand.STOPPING, recheck=min(recheck, grace))
    return _alive(observed, pod, spec, recheck)


def _ended(observed: Observed, *, node_lost: bool = False) -> Verdict:
    """Return the end of an attempt that is over by what is seen of its pod."""
    attempt, beat = observed.job.status.attempt, observed.beat
    heard = beat is not None or (attempt is not None and attempt.running_time is not None)
    final = beat.final if beat else None
    ending = classify(observed.last_pod, final, heard=heard, node_lost=node_lost)
    return Verdict(Stand.ENDED, ending)


def _alive(observed: Observed, pod: Pod, spec: JobSpec, recheck: float) -> Verdict:
    """Judge a pod on a live node: it may stay there, unless it stands still for too long."""
    beat = observed.beat
    giving_up = unstartable.until_given_up(observed, pod, spec)
    if giving_up is not None and giving_up <= 0:
        return Verdict(Stand.ENDED, unstartable.given_up(observed, pod, spec))
    patience, question = hang.until_hung(observed, pod, spec.hang_policy), None
    if patience <= 0:
        patience = hang.until_replaced(observed, pod, spec.hang_policy)
        if patience <= 0:
            return Verdict(Stand.ENDED, hang.ending(observed, pod, spec))
        patience, question = min(patience, hang.ANSWER_SECONDS), hang.question(observed)
    patience = max(patience, liveness.SHORTEST_RECHECK_SECONDS)
    recheck = min(recheck, patience, giving_up or patience)
    if beat and is_training(beat):
        return Verdict(Stand.TRAINING, recheck=recheck, question=question)
    reason, message = _waits_for(observed, pod, spec)
    return Verdict(Stand.STARTING, None, reason, message, recheck if pod.node else None, question)


def is_training(beat: Heartbeat) -> bool:
    """Whether this beat's position is that of a restored, running model.

    A trainer that ended before it had restored says Finished at step 0.
    """
    if beat.phase is TrainerPhase.FINISHED:
        return beat.position.step > 0
    return beat.phase in (TrainerPhase.TRAINING, TrainerPhase.SAVING)


def has_recorded_start(beat: Heartbeat) -> bool:
    """Whether this beat's trainer has written to the volume what it goes on from.

    Until then it tells of a commit, but not whether that is the answer to a request to go back.
    """
    if beat.phase is TrainerPhase.FINISHED and beat.restore is None:
        return beat.position.step > (beat.started_from.step if beat.started_from else 0)
    return beat.restore is not None or is_training(beat)


def starting_message(pod: str) -> str:
    """Say that nothing is wrong; alike before and after the pod is there, to save a write."""
    return f"Pod {pod} is starting."


def _waits_for(observed: Observed, pod: Pod, spec: JobSpec) -> tuple[Reason, str]:
    waiting = pod.waiting
    if observed.delay:
        return observed.delay.reason, observed.delay.message
    if unstartable.cannot_start(pod):
        return unstartable.waits_for(pod, spec)
    if waiting and waiting.reason not in ORDINARY_WAITING:
        return Reason.WAITING_FOR_PODS, f"Pod {pod.name}: {waiting.reason}: {waiting.message}"
    return Reason.WAITING_FOR_PODS, starting_message(pod.name)
