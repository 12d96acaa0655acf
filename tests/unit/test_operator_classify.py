"""What ended an attempt: the cluster's word before the exit code, the trainer's before both."""

import pytest
from rtj_api.heartbeat import FinalRecord
from rtj_api.names import Cause, ExitCode, Reason
from rtj_operator.core.classify import classify
from rtj_operator.core.observed import Pod, Waiting

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
