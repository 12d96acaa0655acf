"""What ended an attempt, decided once: conditions before exit codes.

A pod that is being evicted, deleted or lost with its node fails with whatever code its process
happened to return, so what the cluster says comes first. Two things come even before that, since
only the trainer can know them: that the job is done, and that no retry can help.

A trainer that was killed by a signal, with no word from the cluster, is taken for preempted: a
spot node may be reclaimed, or a container runtime stopped, before anybody sets a condition. If the
program kills itself it is the budget for attempts without progress that ends it.
"""

from dataclasses import dataclass

from rtj_api.failure import RuleAction
from rtj_api.heartbeat import FinalRecord
from rtj_api.names import Cause, ExitCode, Reason

from rtj_operator.core.observed import ContainerExit, Pod

KILLED_BY_SIGNAL = {137: "SIGKILL", 143: "SIGTERM"}
"""128 + signal, as the container runtime reports a process that a signal ended."""

LOST_BY_KUBELET = ("ContainerStatusUnknown", "Unknown")
"""Container reasons that mean: nobody saw how it ended."""

TAKEN_BY_CLUSTER = {
    "Evicted": Reason.EVICTED,
    "Preempting": Reason.EVICTED,
    "NodeShutdown": Reason.EVICTED,
    "Shutdown": Reason.EVICTED,
    "Terminated": Reason.EVICTED,
    "NodeLost": Reason.NODE_LOST,
}
"""`status.reason` of a pod that the kubelet or the node controller took away: under pressure, for a
critical pod, at a graceful shutdown of the node, on an unreachable node. Newer ones set the
condition DisruptionTarget too, not all."""

MESSAGE_LENGTH = 2000

OUT_OF_STORAGE = (
    "Raise the sizeLimit of that emptyDir in spec.trainer.podTemplate, or the limit "
    "ephemeral-storage in spec.trainer.resources, or write less outside of the claim."
)
OUT_OF_MEMORY = (
    "The trainer used more memory than spec.trainer.resources.limits.memory. "
    "Raise it, or make the batches or shuffle buffers smaller."
)
SILENT_SUCCESS = (
    "The process exited with 0 but did not say that the training is complete. "
    "Does the builder end it, as by os._exit()?"
)


@dataclass(frozen=True)
class Ending:
    """What ended an attempt."""

    cause: Cause
    reason: Reason
    message: str
    exit_code: int | None = None
    started: bool = True
    """Whether any of its containers is known to have run."""
    last_words: str = ""
    """What the trainer said at its end, with its reason; else the end of its log."""
    rule_action: RuleAction | None = None
    """What the first matching rule of spec.failurePolicy says about it."""


def classify(
    pod: Pod | None, final: FinalRecord | None, *, heard: bool = False, node_lost: bool = False
) -> Ending:
    """Tell what ended an attempt.

    `pod` is as it was last seen, None if it never was; `final` is the trainer's last heartbeat
    record of this very attempt; `heard` says that its trainer ever spoke; `node_lost` says that the
    node is dead whatever the pod's status still claims.
    """
    exit_ = pod.exit if pod else None
    final = (exit_.final if exit_ else None) or final
    code = exit_.code if exit_ else final.exit_code if final else None
    ran = pod is not None and (pod.started or bool(pod.exits))
    started = ran or heard or final is not None
    words = f"{final.reason}: {final.message}" if final else exit_.message if exit_ else ""

    def ending(cause: Cause, reason: Reason, message: str) -> Ending:
        return Ending(cause, reason, message[:MESSAGE_LENGTH], code, started, words)

    if code == ExitCode.COMPLETED and final and final.reason is Reason.COMPLETED:
        return ending(Cause.COMPLETED, Reason.COMPLETED, final.message)
    if code == ExitCode.PERMANENT and final:
        return ending(Cause.PERMANENT, final.reason, final.message)
    if code == ExitCode.SUPERSEDED:
        message = final.message if final else "A newer attempt, or a second pod, owns the volume."
        return ending(Cause.PREEMPTED, Reason.SUPERSEDED, message)
    if pod is None:
        return ending(Cause.PREEMPTED, Reason.POD_DELETED, "The pod is gone.")
    if disruption := _disruption(pod, node_lost=node_lost):
        return ending(Cause.PREEMPTED, *disruption)
    if _wrote_too_much(pod):
        message = f"{pod.message.strip()} {OUT_OF_STORAGE}"
        return ending(Cause.USER_ERROR, Reason.EPHEMERAL_STORAGE_EXCEEDED, message)
    if failed := _failed_before_trainer(pod):
        return ending(Cause.USER_ERROR, Reason.TRAINER_FAILED, failed)
    if exit_ is None:
        return ending(Cause.PREEMPTED, *_refused(pod))
    return ending(*_by_exit_code(exit_, final))


def _disruption(pod: Pod, *, node_lost: bool) -> tuple[Reason, str] | None:
    """Return why the cluster, and not the program, ended the attempt; None if it did not."""
    where = f" on node {pod.node}" if pod.node else ""
    if pod.disruption:
        told = f"{pod.disruption.reason}: {pod.disruption.message}".strip(": ")
        return Reason.EVICTED, f"The pod{where} was evicted. {told}"
    if node_lost:
        return Reason.NODE_LOST, f"Node {pod.node} is lost: it and its trainer have fallen silent."
    if pod.deleting:
        return Reason.POD_DELETED, f"The pod{where} was deleted."
    if _wrote_too_much(pod):
        return None
    if pod.reason in TAKEN_BY_CLUSTER:
        told = f"{pod.reason}: {pod.message}".strip(": ")
        return TAKEN_BY_CLUSTER[pod.reason], f"The pod{where} was taken away. {told}"
    if pod.exit and pod.exit.reason in LOST_BY_KUBELET:
        return Reason.NODE_LOST, f"The kubelet{where} lost sight of the container."
    return None


def _wrote_too_much(pod: Pod) -> bool:
    """Return whether the pod broke its own limit of local storage, and would do so again.

    The kubelet says Evicted then as it does under pressure, but sets no DisruptionTarget.
    """
    return pod.reason == "Evicted" and not pod.disruption and "exceed" in pod.message


def _failed_before_trainer(pod: Pod) -> str | None:
    """Say which init container failed, if one did: the trainer's container then never runs."""
    failed = [(name, code) for name, code in pod.exits if code]
    if pod.started or pod.phase != "Failed" or not failed:
        return None
    name, code = failed[0]
    return f"Container {name} of spec.trainer.podTemplate exited with {code}."


def _refused(pod: Pod) -> tuple[Reason, str]:
    """Tell of a pod that ended though no container of it is known to have ended."""
    where = f" on node {pod.node}" if pod.node else ""
    if pod.phase != "Failed":
        return Reason.POD_DELETED, f"The pod{where} was deleted."
    told = f"{pod.reason}: {pod.message}".strip(": ")
    return Reason.EVICTED, f"The pod{where} was refused. {told}"


def _by_exit_code(exit_: ContainerExit, final: FinalRecord | None) -> tuple[Cause, Reason, str]:
    said = final.message if final else exit_.message.strip()[-MESSAGE_LENGTH:]
    if exit_.reason == "OOMKilled":
        return (
            Cause.USER_ERROR,
            Reason.OOM_KILLED,
            OUT_OF_MEMORY,
        )
    if exit_.code == ExitCode.PREEMPTED:
        return Cause.PREEMPTED, Reason.TRAINER_PREEMPTED, said or "The trainer was asked to stop."
    if exit_.code in KILLED_BY_SIGNAL:
        signal = KILLED_BY_SIGNAL[exit_.code]
        return Cause.PREEMPTED, Reason.TRAINER_PREEMPTED, f"{signal} from outside the container."
    if exit_.code == ExitCode.PERMANENT:
        return Cause.PERMANENT, Reason.TRAINER_FAILED, said or "The trainer gave no reason."
    if exit_.code == ExitCode.COMPLETED:
        return (
            Cause.USER_ERROR,
            Reason.TRAINER_FAILED,
            SILENT_SUCCESS,
        )
    reason = final.reason if final else Reason.TRAINER_FAILED
    return Cause.USER_ERROR, reason, said or f"The trainer exited with {exit_.code}."
