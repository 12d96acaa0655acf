"""The node dies, as by a power cut, at ten different moments of one job; the weights never tell.

Each moment is told from what the trainer has put on its volume, which is exact to milliseconds, and
the node's processes are then all killed. Once the node is only cut off, and its trainer goes on
beside its successor until it finds the fence. A reference run without a cluster keeps every one of
its commits, so that not only the final weights are compared but those of each commit that survived.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rtj_demo.jobs import Job, submit
from rtj_demo.kube import Kube, wait_for
from rtj_trainer.ledger import committed_trajectory

from tests.e2e.support import commits, final_commit, job_folder, start_reference, trainer_pids

pytestmark = pytest.mark.e2e

BUILDER = Path(__file__).parent / "builders" / "moments.py"
EXAMPLES, BATCH_SIZE, EPOCHS, EVERY = 400, 10, 10, 10
EPOCH_STEPS = EXAMPLES // BATCH_SIZE
TOTAL = EPOCHS * EPOCH_STEPS


@dataclass(frozen=True)
class Sight:
    """What can be seen of an attempt: its volume, and its pod."""

    job: Job
    folder: Path
    attempt: int

    def has_a_node(self) -> bool:
        current = self.job.status().get("attempt", {})
        return current.get("number") == self.attempt and bool(current.get("nodeName"))

    def fenced(self) -> bool:
        return (self.folder / "attempts" / f"{self.attempt:06d}.json").exists()

    def chose_its_start(self) -> bool:
        return (self.folder / "attempts" / f"{self.attempt:06d}.start.json").exists()

    def trains(self) -> bool:
        return self.job.step(self.attempt) >= 0

    def committing(self) -> bool:
        return any(self.folder.glob(f"commits/tmp-*-{self.attempt:06d}*"))

    def last_commit(self) -> int:
        """Step of its newest commit, or -1."""
        found = self.folder.glob(f"commits/[0-9]*-{self.attempt:06d}")
        return max((int(commit.name.split("-")[0]) for commit in found), default=-1)

    def between_commits(self) -> bool:
        found = self.folder.glob(f"commits/[0-9]*-{self.attempt:06d}")
        newest = max((commit.stat().st_ctime for commit in found), default=time.time())
        return time.time() - newest > BETWEEN_SECONDS and not self.committing()

    def at_the_end_of_an_epoch(self) -> bool:
        step = self.last_commit()
        return step > 0 and step % EPOCH_STEPS == 0


Moment = Callable[[Sight], bool]
CUT_OFF = "but only cut off, and training on"
"""At this moment the node does not die. Its trainer reaches its volume and nothing else."""
BETWEEN_SECONDS = 0.2
"""Some steps after a commit, and well before the next."""
MOMENTS: dict[str, Moment] = {
    "before its container runs": Sight.has_a_node,
    "while starting": Sight.fenced,
    "while restoring": Sight.chose_its_start,
    "before its first commit": Sight.trains,
    CUT_OFF: Sight.trains,
    "in the middle of a commit": Sight.committing,
    "right after a commit": lambda sight: sight.last_commit() > 0,
    "between two commits": Sight.between_commits,
    "at the end of an epoch": Sight.at_the_end_of_an_epoch,
    "in the last epoch": lambda sight: sight.last_commit() > TOTAL - EPOCH_STEPS,
    "and at once again, while starting": Sight.fenced,
}


def _objects() -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "moments"},
            "data": {"builder.py": BUILDER.read_text()},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "moments"},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "10Gi"}},
            },
        },
        {
            "apiVersion": "resumable.training/v1alpha1",
            "kind": "ResumableTrainingJob",
            "metadata": {"name": "moments"},
            "spec": {
                "builder": {
                    "configMap": {"name": "moments"},
                    "datasetParams": {"examples": EXAMPLES, "batch_size": BATCH_SIZE},
                    "modelParams": {"width": 500_000, "start_seconds": 1.0},
                },
                "seed": 11,
                "epochs": EPOCHS,
                "checkpoint": {"claimName": "moments", "everySteps": EVERY, "keep": 1000},
                "trainer": {"image": "docker.io/library/rtj-trainer:dev"},
                "failurePolicy": {"maxNoProgressRestarts": 10},
            },
        },
    ]


def _await_moment(sight: Sight, moment: Moment) -> None:
    """Return within milliseconds of the moment, so that it is still that moment."""
    deadline = time.monotonic() + 180
    while not moment(sight):
        assert time.monotonic() < deadline, f"attempt {sight.attempt} never came to that moment"
        time.sleep(0.002)


def _await_fenced_off(pod_uid: str) -> None:
    """Return when a trainer that nobody can reach has ended by itself."""
    assert trainer_pids(pod_uid), "it had ended before its successor began"
    wait_for("it to find its successor's fence", lambda: not trainer_pids(pod_uid), 60)


@pytest.fixture
def two_nodes_with_an_operator_each(operator: None, cluster: Any, kube: Kube) -> Iterator[None]:
    """Begin with both, and leave both to the next test, however this one ends."""
    _spread_operators(cluster, kube)
    yield
    _spread_operators(cluster, kube)


def _spread_operators(cluster: Any, kube: Kube) -> None:
    """A test before this one may have taken a node away, and with it the place of an operator."""
    for node in cluster.node_names:
        cluster.add_node(node)
    deployment = ("deployment/rtj-rtj-operator", "-n", "rtj-system")
    kube.run("rollout", "status", *deployment, "--timeout=180s")
    pods = kube.list("pods", "rtj-system", "app.kubernetes.io/name=rtj-operator")
    if len({pod["spec"]["nodeName"] for pod in pods}) < 2:
        kube.run("rollout", "restart", *deployment)
        kube.run("rollout", "status", *deployment, "--timeout=180s")


@pytest.mark.usefixtures("two_nodes_with_an_operator_each")
def test_a_node_may_die_at_any_moment(
    kube: Kube, cluster: Any, namespace: str, tmp_path: Path
) -> None:
    job = submit(kube, namespace, _objects())
    wait_for("the claim to be bound", lambda: _bound(job), 30)
    folder = job_folder(job)
    for attempt, (name, moment) in enumerate(MOMENTS.items(), start=1):
        sight = Sight(job, folder, attempt)
        job.wait_until(
            f"attempt {attempt} to have a node", lambda _, seen=sight: seen.has_a_node(), 90
        )
        node = job.node_name()
        _await_moment(sight, moment)
        stale = job.kube.get("pod", job.pod_name(), job.namespace)["metadata"]["uid"]
        strike = cluster.partition if name == CUT_OFF else cluster.kill_node
        strike(node)
        killed = time.monotonic()
        job.wait_until(
            f"the attempt after the kill {name}",
            lambda s, number=attempt + 1: s["attempt"]["number"] == number,
            # The leader may have died with the node, and its successor starts counting anew.
            120,
        )
        print(f"killed {name}: next attempt after {time.monotonic() - killed:.1f} s")  # noqa: T201
        if name == CUT_OFF:
            _await_fenced_off(stale)
            cluster.heal(node)
        else:
            cluster.add_node(node)

    status = job.wait_for_end()
    assert status["phase"] == "Completed"
    assert status["restarts"]["preempted"] == len(MOMENTS)
    assert {a["reason"] for a in status["attempts"][:-1]} == {"NodeLost"}

    reference = start_reference(_objects(), tmp_path).finish()
    assert committed_trajectory(folder) == committed_trajectory(reference)
    assert final_commit(folder)["stateSha256"] == final_commit(reference)["stateSha256"]
    expected = commits(reference)
    for step, commit in commits(folder).items():
        assert commit["stateSha256"] == expected[step]["stateSha256"], f"weights at step {step}"


def _bound(job: Job) -> bool:
    claim = job.fetch()["spec"]["checkpoint"]["claimName"]
    return "volumeName" in job.kube.get("pvc", claim, job.namespace)["spec"]
