"""The ways in which an attempt can end, as jobs: what makes it end, and what its user then sees.

A stand-in for the trainer serves where the cluster ends the attempt and not the trainer: a
container that starts at once, waits to be ended, and says in its second attempt that the training
is complete. It spares a start of TensorFlow. What the trainer itself does is left to the trainer.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUILDER = Path(__file__).parent / "builders" / "endings.py"
TRAINER = "docker.io/library/rtj-trainer:dev"
CLAIM = "endings"
GPU = {"limits": {"nvidia.com/gpu": 1}}
HOST = "kubernetes.io/hostname"
MAINTENANCE = "test.resumable.training/maintenance"
"""Taint of the node that is made for these tests; those who shall see more of it tolerate it."""
TOLERANT = [{"key": MAINTENANCE, "operator": "Exists"}]

_STAND_IN = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
if json.loads(os.environ["RTJ_CONFIG"])["attempt"] == 1:
    {first}
with open("/dev/termination-log", "w") as file:
    json.dump({{"exitCode": 0, "reason": "Completed", "message": "as if it were trained"}}, file)
"""


@dataclass(frozen=True)
class Ending:
    """One way to end, and what is seen of it."""

    spec: dict[str, Any]
    """Of the job, laid over what all have."""
    cause: str
    reason: str
    words: tuple[str, ...]
    """In the attempt's message, and in the Event about its end."""
    exit_code: int | None = None
    """None where it depends on who is faster."""
    restarts: dict[str, int] = field(default_factory=dict)
    """Counters of `status.restarts` that are not 0."""
    condition: str = "Completed"
    """Reason of the condition Complete or Failed at the end."""
    event: str = ""
    """Reason of the Event that tells of it; default: that of the attempt."""


def stand_in(first: str = "time.sleep(3600)", **pod: Any) -> dict[str, Any]:
    """Return what a job needs whose first attempt runs `first`; `pod` are fields of its pod."""
    container = {"name": "trainer", "command": ["python3", "-c", _STAND_IN.format(first=first)]}
    container |= pod.pop("container", {})
    return _trainer(podTemplate={"spec": {"containers": [container], **pod}})


def idle_on(node: str, **container: Any) -> dict[str, Any]:
    """Return the spec of a pod that does nothing on a node; `container` are fields of its own."""
    idle = {"name": "idle", "image": "docker.io/library/rtj-pause:1", **container}
    return {
        "nodeSelector": {HOST: node},
        "terminationGracePeriodSeconds": 0,
        "containers": [idle],
    }


def _trainer(**fields: Any) -> dict[str, Any]:
    return {"trainer": {"image": TRAINER, "gracePeriodSeconds": 2, **fields}}


def _built(function: str, config_map: str = "endings", **trainer: Any) -> dict[str, Any]:
    builder = {
        "configMap": {"name": config_map},
        "module": "endings",
        "datasetFunction": function,
    }
    return {"builder": builder, **_trainer(**trainer)}


def _ruled(action: str, code: int) -> dict[str, Any]:
    exit_codes = {"containerName": "trainer", "operator": "In", "values": [code]}
    rule = {"name": "licence-server", "action": action, "onExitCodes": exit_codes}
    return {"failurePolicy": {"rules": [rule]}}


_ONCE = {"preempted": 1, "noProgress": 1, "total": 1}
_NO_RETRY = {"runPolicy": {"backoffLimit": 0}}
_NO_RESTART = {"failurePolicy": {"maxDisruptionRestarts": 0}}
_IMPATIENT = {"failurePolicy": {"cannotStartTimeoutSeconds": 10}}
_SECRET = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "none", "key": "token"}}}

OF_ITSELF: dict[str, Ending] = {
    "needs-more-memory": Ending(
        _built("allocates", resources={"limits": {"memory": "1Gi"}}) | _NO_RETRY,
        "UserError",
        "OOMKilled",
        ("spec.trainer.resources.limits.memory",),
        exit_code=137,
        condition="BackoffLimitExceeded",
        event="BackoffLimitExceeded",
    ),
    "ends-without-a-word": Ending(
        _built("leaves") | _NO_RETRY,
        "UserError",
        "TrainerFailed",
        ("exited with 0", "os._exit()"),
        exit_code=0,
        condition="BackoffLimitExceeded",
        event="BackoffLimitExceeded",
    ),
    "cannot-be-resumed": Ending(
        _built("forgets"),
        "Permanent",
        "PipelineNotResumable",
        ("cannot be resumed exactly", "numpy_function"),
        exit_code=78,
        condition="PipelineNotResumable",
    ),
    "fails-by-rule": Ending(
        stand_in("sys.exit(42)") | _ruled("Fail", 42),
        "UserError",
        "TrainerFailed",
        ("exited with 42",),
        exit_code=42,
        condition="FailedByRule",
        event="FailedByRule",
    ),
    "is-ignored-by-rule": Ending(
        stand_in("sys.exit(43)") | _ruled("Ignore", 43),
        "UserError",
        "TrainerFailed",
        ("exited with 43", "rules[0] (licence-server): Ignore"),
        exit_code=43,
        restarts={"ignored": 1, "total": 1},
    ),
    "fails-before-it-starts": Ending(
        stand_in(
            initContainers=[
                {"name": "fetch", "image": TRAINER, "command": ["python3", "-c", "exit(3)"]}
            ]
        )
        | _NO_RETRY,
        "UserError",
        "TrainerFailed",
        ("Container fetch of spec.trainer.podTemplate exited with 3",),
        condition="BackoffLimitExceeded",
        event="BackoffLimitExceeded",
    ),
    "has-no-image": Ending(
        # Refused at once; a name would have to be resolved, which can last as long as it likes.
        _trainer(image="127.0.0.1:1/none:1") | _IMPATIENT,
        "Permanent",
        "ImageNotPullable",
        ("127.0.0.1:1/none:1", "for 10 s (spec.failurePolicy.cannotStartTimeoutSeconds)"),
        condition="ImageNotPullable",
    ),
    "has-no-image-on-its-node": Ending(
        _trainer(image="docker.io/library/none:1", imagePullPolicy="Never"),
        "Permanent",
        "ImageNotPullable",
        ("docker.io/library/none:1", "Put the image on the node", "imagePullPolicy"),
        condition="ImageNotPullable",
    ),
    "has-a-wrong-image-name": Ending(
        _trainer(image="Trainer:1"),
        "Permanent",
        "ImageNotPullable",
        ("'Trainer:1'", "InvalidImageName", "Fix spec.trainer.image"),
        condition="ImageNotPullable",
    ),
    "has-no-secret": Ending(
        stand_in(container={"env": [_SECRET]}) | _IMPATIENT,
        "Permanent",
        "ContainerNotCreated",
        ('secret "none" not found', "Create what is named"),
        condition="ContainerNotCreated",
    ),
    "fills-its-disk": Ending(
        stand_in(
            "time.sleep(3); open('/scratch/all', 'wb').write(bytes(4 << 20)); time.sleep(3600)",
            container={"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]},
            volumes=[{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}],
        )
        | _NO_RETRY,
        "UserError",
        "EphemeralStorageExceeded",
        ('EmptyDir volume "scratch" exceeds the limit', "Raise the sizeLimit"),
        condition="BackoffLimitExceeded",
        event="BackoffLimitExceeded",
    ),
}
"""Nobody has to do anything for these."""

BY_OTHERS: dict[str, Ending] = {
    "loses-its-process": Ending(
        _built("trains", config_map="changing"),
        "Preempted",
        "TrainerPreempted",
        ("SIGKILL from outside",),
        exit_code=137,
        restarts={"preempted": 1, "total": 1},
        # That ends its second attempt, which finds another builder.
        condition="FingerprintMismatch",
    ),
    "is-outranked": Ending(
        stand_in(container={"resources": GPU}),
        "Preempted",
        "Evicted",
        ("PreemptionByScheduler",),
        restarts=_ONCE,
    ),
    "is-on-a-node-that-shuts-down": Ending(
        stand_in(),
        "Preempted",
        "Evicted",
        ("TerminationByKubelet", "imminent node shutdown"),
        restarts=_ONCE,
    ),
    "is-stopped-by-a-queue": Ending(
        stand_in(), "Preempted", "Evicted", ("StoppedByKueue",), restarts=_ONCE
    ),
    "is-deleted-by-force": Ending(
        stand_in(), "Preempted", "PodDeleted", ("The pod",), restarts=_ONCE
    ),
    "is-refused-by-its-node": Ending(
        stand_in(container={"resources": {"limits": {"nvidia.com/gpu": 99}}}) | _NO_RESTART,
        "Preempted",
        "Evicted",
        ("was refused", "nvidia.com/gpu"),
        restarts={"neverStarted": 1},
        condition="DisruptionLimitExceeded",
        event="DisruptionLimitExceeded",
    ),
    "is-not-the-newest": Ending(
        _trainer() | _NO_RESTART | {"runPolicy": {"suspend": True}},
        "Preempted",
        "Superseded",
        ("attempt 7 has started",),
        exit_code=76,
        restarts={"noProgress": 1},
        condition="DisruptionLimitExceeded",
        event="DisruptionLimitExceeded",
    ),
}
"""Somebody has to end these, or to do something before they can be ended."""

ON_A_NODE_OF_ITS_OWN: dict[str, Ending] = {
    "is-on-a-node-under-maintenance": Ending(
        stand_in(), "Preempted", "Evicted", ("DeletionByTaintManager",), restarts=_ONCE
    ),
    "is-on-a-node-that-restarts": Ending(
        stand_in(tolerations=TOLERANT),
        "Preempted",
        "NodeLost",
        # Its kubelet may come back after 12 s of silence, or before.
        ("lost",),
        restarts=_ONCE,
    ),
    "is-on-a-node-that-is-deleted": Ending(
        stand_in(tolerations=TOLERANT), "Preempted", "NodeLost", ("is lost",), restarts=_ONCE
    ),
}
"""What happens to a whole node; the others are kept away from it."""


def spec_of(ending: Ending) -> dict[str, Any]:
    """Return the spec of a job that ends so."""
    common = {"builder": {}, "epochs": 100_000, "checkpoint": {"claimName": CLAIM, "everySteps": 2}}
    return common | ending.spec
