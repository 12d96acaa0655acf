"""What ended an attempt: the cluster's word before the exit code, the trainer's before both."""

import pytest
from rtj_api.heartbeat import FinalRecord
from rtj_api.names import Cause, ExitCode, Reason
from rtj_operator.core.classify import classify
from rtj_operator.core.observed import Pod, Waiting
from rtj_operator.parse import parse_pod

from tests.unit.operator_looks import DONE, exited, final, pod

pytestmark = pytest.mark.unit

DRAINED = Waiting("EvictionByEvictionAPI", "drained")
REFUSED = final(ExitCode.PERMANENT, Reason.FINGERPRINT_MISMATCH, "seed changed")
RAISED = final(ExitCode.USER_ERROR, Reason.BUILDER_FAILED, "KeyError: 'x'")

CASES: dict[str, tuple[Pod | None, Cause, Reason]] = {
    "done": (exited(0, DONE), Cause.COMPLETED, Reason.COMPLETED),
    "done while drained": (
        exited(0, DONE, deleting=True, disruption=DRAINED),
        Cause.COMPLETED,
        Reason.COMPLETED,
    ),
    "exit 0 without the word": (exited(0), Cause.USER_ERROR, Reason.TRAINER_FAILED),
    "evicted, exit 1": (exited(1, disruption=DRAINED), Cause.PREEMPTED, Reason.EVICTED),
    "evicted, OOMKilled": (
        exited(137, reason="OOMKilled", disruption=DRAINED),
        Cause.PREEMPTED,
        Reason.EVICTED,
    ),
    "deleted, exit 1": (exited(1, deleting=True), Cause.PREEMPTED, Reason.POD_DELETED),
    "deleted, still running": (pod(deleting=True), Cause.PREEMPTED, Reason.POD_DELETED),
    "refused by the kubelet": (
        pod(phase="Failed", reason="UnexpectedAdmissionError", started=False),
        Cause.PREEMPTED,
        Reason.EVICTED,
    ),
    "lost by the kubelet": (
        exited(137, reason="ContainerStatusUnknown"),
        Cause.PREEMPTED,
        Reason.NODE_LOST,
    ),
    "gone": (None, Cause.PREEMPTED, Reason.POD_DELETED),
    "failed by its init container": (
        pod(phase="Failed", started=False, exits=(("fetch", 3),)),
        Cause.USER_ERROR,
        Reason.TRAINER_FAILED,
    ),
    "evicted in its init container": (
        pod(phase="Failed", started=False, exits=(("fetch", 3),), disruption=DRAINED),
        Cause.PREEMPTED,
        Reason.EVICTED,
    ),
    "asked to stop": (exited(75), Cause.PREEMPTED, Reason.TRAINER_PREEMPTED),
    "superseded": (exited(76), Cause.PREEMPTED, Reason.SUPERSEDED),
    "killed from outside": (exited(137), Cause.PREEMPTED, Reason.TRAINER_PREEMPTED),
    "out of memory": (exited(137, reason="OOMKilled"), Cause.USER_ERROR, Reason.OOM_KILLED),
    "segmentation fault": (exited(139), Cause.USER_ERROR, Reason.TRAINER_FAILED),
    "the builder raised": (exited(1, RAISED), Cause.USER_ERROR, Reason.BUILDER_FAILED),
    "no retry can help": (exited(78, REFUSED), Cause.PERMANENT, Reason.FINGERPRINT_MISMATCH),
    "no retry can help, and drained": (
        exited(78, REFUSED, disruption=DRAINED),
        Cause.PERMANENT,
        Reason.FINGERPRINT_MISMATCH,
    ),
    "78 without a word": (exited(78), Cause.PERMANENT, Reason.TRAINER_FAILED),
}


DISRUPTIONS = [
    "PreemptionByScheduler",
    "DeletionByTaintManager",
    "EvictionByEvictionAPI",
    "DeletionByPodGC",
    "TerminationByKubelet",
    "AReasonOfNextYear",
]


def seen(**status: object) -> Pod:
    """Return a failed pod as the API server shows it."""
    meta = {"name": "job-1-0", "uid": "u", "labels": {"resumable.training/attempt": "1"}}
    return parse_pod(
        {
            "metadata": meta,
            "spec": {"nodeName": "node-a"},
            "status": {"phase": "Failed", **status},
        }
    )


def trainer_state(code: int) -> list[dict[str, object]]:
    return [{"name": "trainer", "state": {"terminated": {"exitCode": code, "reason": "Error"}}}]


@pytest.mark.parametrize("kind", ["DisruptionTarget", "TerminationTarget"])
@pytest.mark.parametrize("reason", DISRUPTIONS)
@pytest.mark.parametrize("code", [1, 137, 139, 143])
def test_a_disruption_is_a_preemption_whatever_its_reason_and_the_exit_code(
    kind: str, reason: str, code: int
) -> None:
    condition = {"type": kind, "status": "True", "reason": reason, "message": "told by the cluster"}
    ending = classify(seen(conditions=[condition], containerStatuses=trainer_state(code)), None)
    assert (ending.cause, ending.reason) == (Cause.PREEMPTED, Reason.EVICTED)
    assert reason in ending.message
    assert "told by the cluster" in ending.message


def test_a_disruption_that_was_called_off_is_none() -> None:
    condition = {"type": "DisruptionTarget", "status": "False", "reason": "PreemptionByScheduler"}
    ending = classify(seen(conditions=[condition], containerStatuses=trainer_state(1)), None)
    assert ending.cause is Cause.USER_ERROR


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("Evicted", Reason.EVICTED),
        ("Preempting", Reason.EVICTED),
        ("NodeShutdown", Reason.EVICTED),
        ("Terminated", Reason.EVICTED),
        ("NodeLost", Reason.NODE_LOST),
    ],
)
@pytest.mark.parametrize("code", [1, 137, 143])
def test_a_kubelet_that_sets_no_condition_is_believed_by_its_reason(
    reason: str, expected: Reason, code: int
) -> None:
    told = {"reason": reason, "message": "Pod was terminated in response to imminent node shutdown"}
    ending = classify(seen(**told, containerStatuses=trainer_state(code)), None)
    assert (ending.cause, ending.reason) == (Cause.PREEMPTED, expected)
    assert "node shutdown" in ending.message


@pytest.mark.parametrize(
    "message",
    [
        'Usage of EmptyDir volume "scratch" exceeds the limit "1Mi". ',
        "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
        'Container trainer exceeded its local ephemeral storage limit "1Gi". ',
    ],
)
def test_a_pod_that_breaks_its_own_limit_of_storage_is_no_preemption(message: str) -> None:
    told = {"reason": "Evicted", "message": message, "containerStatuses": trainer_state(137)}
    ending = classify(seen(**told), None)
    assert (ending.cause, ending.reason) == (Cause.USER_ERROR, Reason.EPHEMERAL_STORAGE_EXCEEDED)
    assert message.strip() in ending.message
    assert "Raise the sizeLimit" in ending.message
    drained = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    assert classify(seen(**told, conditions=[drained]), None).cause is Cause.PREEMPTED


def test_a_trainer_that_its_kubelet_has_lost_sight_of_has_run_all_the_same() -> None:
    """What a kubelet of 1.35 now and then writes about a second before the true end."""
    unknown = {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": None}
    trainer = {
        "name": "trainer",
        "state": {"waiting": {"reason": "ContainerCreating"}},
        "lastState": {"terminated": unknown},
        "restartCount": 1,
    }
    full = 'Usage of EmptyDir volume "scratch" exceeds the limit "1Mi". '
    ending = classify(seen(reason="Evicted", message=full, containerStatuses=[trainer]), None)
    assert (ending.reason, ending.started) == (Reason.EPHEMERAL_STORAGE_EXCEEDED, True)
    ending = classify(seen(containerStatuses=[trainer]), None)
    assert (ending.cause, ending.reason) == (Cause.PREEMPTED, Reason.NODE_LOST)
    assert "lost sight of the container" in ending.message


def test_a_reason_that_is_not_the_clusters_leaves_the_exit_code_to_speak() -> None:
    told = {"reason": "DeadlineExceeded", "message": "Pod was active on the node for too long"}
    assert classify(seen(**told, containerStatuses=trainer_state(1)), None).cause is (
        Cause.USER_ERROR
    )


def test_an_init_container_that_failed_is_named_with_its_code() -> None:
    init = [{"name": "fetch", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]
    waiting = [{"name": "trainer", "state": {"waiting": {"reason": "PodInitializing"}}}]
    ending = classify(seen(initContainerStatuses=init, containerStatuses=waiting), None)
    assert ending.cause is Cause.USER_ERROR
    assert "fetch" in ending.message
    assert "3" in ending.message
    assert ending.started, "it did run something: repeats are no fault of the cluster"


@pytest.mark.parametrize("case", CASES)
def test_an_attempt_ends_as(case: str) -> None:
    ended, cause, reason = CASES[case]
    ending = classify(ended, None)
    assert (ending.cause, ending.reason) == (cause, reason)
    assert ending.message


@pytest.mark.parametrize(
    ("said", "cause"),
    [(DONE, Cause.COMPLETED), (REFUSED, Cause.PERMANENT), (RAISED, Cause.PREEMPTED)],
)
def test_the_last_heartbeat_speaks_for_a_pod_that_is_gone(said: FinalRecord, cause: Cause) -> None:
    assert classify(None, said).cause is cause


def test_a_trainer_that_finished_on_a_node_that_then_died_has_finished() -> None:
    assert classify(pod(), DONE, node_lost=True).cause is Cause.COMPLETED


def test_a_lost_node_is_named() -> None:
    ending = classify(pod(), None, node_lost=True)
    assert ending.reason is Reason.NODE_LOST
    assert "node-a" in ending.message


def test_the_end_of_the_log_tells_what_an_unknown_program_died_of() -> None:
    ended = exited(1)
    assert ended.exit
    spoken = Pod(
        **{**ended.__dict__, "exit": type(ended.exit)(1, "Error", "Traceback: no such bucket")}
    )
    assert "no such bucket" in classify(spoken, None).message
