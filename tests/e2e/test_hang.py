"""A trainer hangs on a healthy node: its stacks are kept, its pod is replaced, nothing is lost."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rtj_demo.jobs import Job, submit
from rtj_demo.kube import Kube, wait_for
from rtj_trainer.ledger import committed_trajectory

from tests.e2e.support import Reference, final_commit, job_folder, start_reference

pytestmark = pytest.mark.e2e

BUILDER = Path(__file__).parent / "builders" / "hanging.py"
EXAMPLES, BATCH_SIZE, EPOCHS = 400, 10, 6
EPOCH_STEPS = EXAMPLES // BATCH_SIZE
HANGS_AT_STEP = 2 * EPOCH_STEPS
TIMEOUT_SECONDS = 60
"""More than a loaded machine needs for the first step, which TensorFlow traces, and than the
heartbeat that the builder waits for."""

DUMPS = {
    "waits": (f"000001-Training-{HANGS_AT_STEP}.txt", "wait_for_a_peer_that_never_answers"),
    "stuck": ("000001-stuck.txt", "call_a_library_that_never_returns"),
}
"""By the way of hanging: the file of the stacks, and the function that must be in it."""


def _objects(how: str) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "hanging"},
            "data": {"builder.py": BUILDER.read_text()},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "hanging"},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
        {
            "apiVersion": "resumable.training/v1alpha1",
            "kind": "ResumableTrainingJob",
            "metadata": {"name": "hanging"},
            "spec": {
                "builder": {
                    "configMap": {"name": "hanging"},
                    "datasetParams": {"examples": EXAMPLES, "batch_size": BATCH_SIZE},
                    "modelParams": {"how": how},
                },
                "seed": 11,
                "epochs": EPOCHS,
                # Every 25 steps: the hang is not at a commit, so steps have to be trained again.
                "checkpoint": {"claimName": "hanging", "everySteps": 25, "keep": 1000},
                "trainer": {
                    "image": "docker.io/library/rtj-trainer:dev",
                    "gracePeriodSeconds": 5,
                },
                "hangPolicy": {"trainingTimeoutSeconds": TIMEOUT_SECONDS},
            },
        },
    ]


@dataclass(frozen=True)
class Played:
    """A job that hangs and goes on, and what it is compared with."""

    job: Job
    reference: Reference


@pytest.fixture(scope="module")
def played(
    operator: None, kube: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Played]]:
    """Submit both jobs: each mostly waits."""
    namespaces = {how: f"test-{uuid.uuid4().hex[:8]}" for how in DUMPS}
    for namespace in namespaces.values():
        kube.run("create", "namespace", namespace)
    yield {
        how: Played(
            submit(kube, namespace, _objects(how)),
            start_reference(_objects(how), tmp_path_factory.mktemp(how)),
        )
        for how, namespace in namespaces.items()
    }
    for namespace in namespaces.values():
        kube.run("delete", "namespace", namespace, "--wait=false")


@pytest.mark.parametrize("how", DUMPS)
def test_a_trainer_that_hangs_says_where_and_its_successor_ends_the_job(
    how: str, played: dict[str, Played]
) -> None:
    file, function = DUMPS[how]
    job = played[how].job
    status = job.wait_for_end()
    assert status["phase"] == "Completed"
    assert (status["restarts"]["hung"], status["restarts"]["total"]) == (1, 1)
    first, second = status["attempts"]
    assert (first["cause"], first["reason"]) == ("Hung", "TrainerHung")
    # One that is stuck may not have told of its last steps.
    assert first["committedStep"] <= first["lastStep"] <= HANGS_AT_STEP
    assert first["committedStep"] <= second["firstStep"] < HANGS_AT_STEP

    path = f"{job.uid()}/stacks/{file}"
    (message,) = wait_for("the Event", lambda: _events(job, "TrainerHung"), 60)
    for text in (message, first["message"]):
        assert f"in phase Training at step {first['lastStep']}" in text
        assert f"{path} on claim hanging" in text
    folder = job_folder(job)
    assert f"in {function}" in (folder / "stacks" / file).read_text()

    expected = played[how].reference.finish()
    assert committed_trajectory(folder) == committed_trajectory(expected)
    assert final_commit(folder)["stateSha256"] == final_commit(expected)["stateSha256"]


def _events(job: Job, reason: str) -> list[str]:
    return [
        event["message"]
        for event in job.kube.list("events", job.namespace)
        if event["involvedObject"]["kind"] == "ResumableTrainingJob" and event["reason"] == reason
    ]
