"""Pods that sit on a node and cannot start: an image, what a container refers to, a sidecar fails.

The kubelet tries for ever, so the operator must end it. Most of these heal when somebody pushes
the image, mends a Secret, or the registry comes back, hence the wait. Two can only be mended by a
change of the spec or of the node, and a job that has nothing to lose does not wait for that. The
wait is one silence of the operator's own clock over all these reasons together, since the kubelet
swaps one for another at each try. It begins anew once the pod was seen without any. That a pull is
being tried again the kubelet does not say: it goes on telling of the last failure.
"""

from rtj_api.names import TRAINER_CONTAINER, Cause, Reason
from rtj_api.spec import JobSpec

from rtj_operator.core.classify import Ending
from rtj_operator.core.observed import CRASHES, Observed, Pod

IMAGE_PROBLEMS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
)
CREATE_PROBLEMS = ("CreateContainerConfigError", "CreateContainerError")
HOPELESS = ("InvalidImageName", "ErrImageNeverPull")

LONGEST_WORDS = 1000
"""Of the kubelet, that leave room for the mend."""

MENDS = {
    "InvalidImageName": "Fix spec.trainer.image",
    "ErrImageNeverPull": (
        "Put the image on the node, or set spec.trainer.imagePullPolicy to IfNotPresent"
    ),
}
MEND_IMAGE = "Push the image, or give the node access to it"
MEND_CONTAINER = "Create what is named, or fix spec.trainer"


def cannot_start(pod: Pod) -> bool:
    """Whether something keeps a container of the pod from starting, and with it the trainer.

    Beside a trainer that has started, a sidecar may wait for its image as long as it likes.
    """
    if pod.started:
        return False
    reason = pod.waiting.reason if pod.waiting else ""
    return reason in IMAGE_PROBLEMS or reason in CREATE_PROBLEMS or reason == CRASHES


def until_given_up(observed: Observed, pod: Pod, spec: JobSpec) -> float | None:
    """Seconds until the job fails for it, 0 or less when it does; None if nothing is wrong."""
    if not cannot_start(pod):
        return None
    if _hopeless(observed, pod):
        return 0.0
    timeout = spec.failure_policy.cannot_start_timeout_seconds
    return timeout - observed.silence.unstartable


def given_up(observed: Observed, pod: Pod, spec: JobSpec) -> Ending:
    """Return the end of an attempt whose pod will never start."""
    reason, what, mend = _told(pod, spec)
    timeout = spec.failure_policy.cannot_start_timeout_seconds
    waited = f" for {timeout} s (spec.failurePolicy.cannotStartTimeoutSeconds)"
    message = f"{what}{'' if _hopeless(observed, pod) else waited}. {mend}, and make a new job."
    return Ending(Cause.PERMANENT, reason, message, started=False)


def waits_for(pod: Pod, spec: JobSpec) -> tuple[Reason, str]:
    """Say what is wrong, what mends it, and when the job fails of it."""
    reason, what, mend = _told(pod, spec)
    then = "the job then goes on by itself"
    timeout = spec.failure_policy.cannot_start_timeout_seconds
    limit = f"{timeout} s of this (spec.failurePolicy.cannotStartTimeoutSeconds)"
    return reason, f"{what}. {mend}; {then}. The job fails after {limit}."


def _hopeless(observed: Observed, pod: Pod) -> bool:
    """Whether waiting is pointless. A job that has something to lose waits all the same."""
    new = observed.job.status.last_commit is None
    return new and pod.waiting is not None and pod.waiting.reason in HOPELESS


def _told(pod: Pod, spec: JobSpec) -> tuple[Reason, str, str]:
    """Return the reason, what is wrong, and what mends it."""
    kind, why, container = "", "", ""
    if pod.waiting:
        kind, container = pod.waiting.reason, pod.waiting.container
        why = f"{kind}: {pod.waiting.message[:LONGEST_WORDS]}".rstrip(": .")
    if kind in CREATE_PROBLEMS:
        what = f"Container {container or TRAINER_CONTAINER} cannot be created ({why})"
        return Reason.CONTAINER_NOT_CREATED, what, MEND_CONTAINER
    if kind == CRASHES:
        awaited = f"container {container} of spec.trainer.podTemplate"
        what = f"The trainer waits for {awaited}, which fails again and again ({why})"
        mend = f"Mend what kubectl logs {pod.name} -c {container} shows"
        return Reason.CONTAINER_NOT_STARTED, what, mend
    image = f"spec.trainer.image {spec.trainer.image!r}"
    if container not in ("", TRAINER_CONTAINER):
        image = f"The image of container {container} in spec.trainer.podTemplate"
    return (
        Reason.IMAGE_NOT_PULLABLE,
        f"{image} cannot be pulled ({why})",
        MENDS.get(kind, MEND_IMAGE),
    )
