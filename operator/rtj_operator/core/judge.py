"""How the current attempt stands, from its pod, its heartbeat and their silence."""

from dataclasses import dataclass
from enum import Enum, auto

from rtj_api.heartbeat import Heartbeat, TrainerPhase
from rtj_api.names import Reason
from rtj_api.spec import JobSpec

from rtj_operator.core import hang, liveness
from rtj_operator.core.classify import Ending, classify
from rtj_operator.core.observed import Observed, Pod

IMAGE_PROBLEMS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
)
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
    attempt, pod, beat = observed.job.status.attempt, observed.pod, observed.beat
    final = beat.final if beat else None
    if pod is None:
        if attempt and (attempt.pod_uid or beat):
            return Verdict(Stand.ENDED, classify(None, final))
        return Verdict(Stand.ABSENT)
    if pod.ended:
        return Verdict(Stand.ENDED, classify(pod, final))
    if liveness.node_is_dead(observed, pod):
        return Verdict(Stand.ENDED, classify(pod, final, node_lost=True))
    recheck = liveness.until_node_is_dead(observed)
    if pod.deleting:
        grace = liveness.until_grace_is_over(observed, pod)
        if grace <= 0:
            return Verdict(Stand.ENDED, classify(pod, final))
        return Verdict(Stand.STOPPING, recheck=min(recheck, grace) if pod.node else grace)
    patience, question = hang.until_hung(observed, pod, spec.hang_policy), None
    if patience <= 0:
        patience = hang.until_replaced(observed, pod, spec.hang_policy)
        if patience <= 0:
            return Verdict(Stand.ENDED, hang.ending(observed, spec))
        patience, question = min(patience, hang.ANSWER_SECONDS), hang.question(observed)
    recheck = min(recheck, max(patience, liveness.SHORTEST_RECHECK_SECONDS))
    if beat and is_training(beat):
        return Verdict(Stand.TRAINING, recheck=recheck, question=question)
    reason, message = _waits_for(pod, spec)
    return Verdict(Stand.STARTING, None, reason, message, recheck if pod.node else None, question)


def is_training(beat: Heartbeat) -> bool:
    """Whether this beat's position is that of a restored, running model.

    A trainer that ended before it had restored says Finished at step 0.
    """
    if beat.phase is TrainerPhase.FINISHED:
        return beat.position.step > 0
    return beat.phase in (TrainerPhase.TRAINING, TrainerPhase.SAVING)


def starting_message(pod: str) -> str:
    """Say that nothing is wrong; alike before and after the pod is there, to save a write."""
    return f"Pod {pod} is starting."


def _waits_for(pod: Pod, spec: JobSpec) -> tuple[Reason, str]:
    waiting = pod.waiting
    if waiting and waiting.reason in IMAGE_PROBLEMS:
        image, why = spec.trainer.image, waiting.message or waiting.reason
        mend = "Push the image or give the node access to it; the pod goes on by itself."
        message = f"spec.trainer.image {image!r} cannot be pulled ({why}). {mend}"
        return Reason.IMAGE_NOT_PULLABLE, message
    if waiting and waiting.reason not in ORDINARY_WAITING:
        return Reason.WAITING_FOR_PODS, f"Pod {pod.name}: {waiting.reason}: {waiting.message}"
    return Reason.WAITING_FOR_PODS, starting_message(pod.name)
