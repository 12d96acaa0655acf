"""Whatever takes a pod away, the job goes on from its last commit and says what happened.

The jobs run side by side, since each mostly waits; then each is looked at in a test of its own.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import yaml
from rtj_demo.jobs import Job, submit
from rtj_demo.kube import Kube, wait_for

from tests.e2e.support import resting_example

pytestmark = pytest.mark.e2e


Scenario = Callable[[Kube, str], None]


def _delete(job: Job) -> None:
    job.kube.run("delete", "pod", job.pod_name(), "-n", job.namespace, "--wait=false")


def _evict(job: Job) -> None:
    pod = job.pod_name()
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": job.namespace},
    }
    url = f"/api/v1/namespaces/{job.namespace}/pods/{pod}/eviction"
    job.kube.run("create", "--raw", url, "-f", "-", stdin=json.dumps(body))


def _drain(job: Job) -> None:
    job.kube.run(
        *("drain", job.node_name(), "--ignore-daemonsets", "--delete-emptydir-data", "--force"),
        *("--pod-selector", f"resumable.training/job-name={job.name}", "--timeout=60s"),
    )


@dataclass(frozen=True)
class TakenAway:
    """A job whose first pod is taken away while it trains."""

    name: str
    how: Callable[[Job], None]
    reason: str
    words: str

    def __call__(self, kube: Kube, namespace: str) -> None:
        job = submit(kube, namespace, resting_example(self.name))
        _await_training(job)
        self.how(job)
        final = job.wait_for_end()
        assert final["phase"] == "Completed"
        ended, second = final["attempts"]
        assert (ended["cause"], ended["reason"]) == ("Preempted", self.reason)
        assert self.words in ended["message"]
        # The trainer had its grace period: the last commit is the last step that it trained.
        assert ended["committedStep"] == ended["lastStep"]
        assert second["firstStep"] == ended["committedStep"]
        assert (final["restarts"]["preempted"], final["restarts"]["total"]) == (1, 1)


def _suspended(kube: Kube, namespace: str) -> None:
    job = submit(kube, namespace, resting_example("paused"))
    _await_training(job)
    _patch(job, {"runPolicy": {"suspend": True}})
    status = job.wait_until("the job to be suspended", lambda s: s.get("phase") == "Suspended")
    stopped_at = status["lastCommit"]["step"]
    assert stopped_at > 20
    label = f"resumable.training/job-name={job.name}"
    wait_for("its pod to go", lambda: not kube.list("pods", namespace, label), 30)
    _patch(job, {"runPolicy": {"suspend": False}})
    final = job.wait_for_end()
    assert final["phase"] == "Completed"
    assert final["attempts"][-1]["firstStep"] == stopped_at
    assert final["restarts"]["total"] == 0


def _removed(kube: Kube, namespace: str) -> None:
    job = submit(kube, namespace, resting_example("gone"))
    _await_training(job)
    kube.run("delete", "rtj", job.name, "-n", namespace)
    label = f"resumable.training/job-name={job.name}"
    wait_for("its pod to go", lambda: not kube.list("pods", namespace, label), 90)
    wait_for("its Lease to go", lambda: not kube.list("leases", namespace, label), 30)
    assert kube.list("persistentvolumeclaims", namespace)


def _await_training(job: Job) -> None:
    wait_for("training to be under way", lambda: job.step() > 20 or None, 180)


def _patch(job: Job, spec: dict[str, object]) -> None:
    patch = json.dumps({"spec": spec})
    job.kube.run("patch", "rtj", job.name, "-n", job.namespace, "--type=merge", "-p", patch)


TAKEN_AWAY = {
    "deleted": TakenAway("deleted", _delete, "PodDeleted", "was deleted"),
    "evicted": TakenAway("evicted", _evict, "Evicted", "EvictionByEvictionAPI"),
    "drained": TakenAway("drained", _drain, "Evicted", "EvictionByEvictionAPI"),
}
SCENARIOS: dict[str, Scenario] = {**TAKEN_AWAY, "suspended": _suspended, "removed": _removed}


@pytest.fixture(scope="module")
def played(operator: None, kube: Kube) -> Iterator[dict[str, Future[None]]]:
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    kube.run("create", "namespace", namespace)
    # The jobs share these, and of two that apply a new object at once one is told that it exists.
    shared = [o for o in resting_example("any") if o["kind"] != "ResumableTrainingJob"]
    kube.run("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(shared))
    with ThreadPoolExecutor() as pool:
        yield {name: pool.submit(play, kube, namespace) for name, play in SCENARIOS.items()}
    kube.run("uncordon", "-l", "kubernetes.io/hostname")
    kube.run("delete", "namespace", namespace, "--wait=false")


@pytest.mark.parametrize("how", TAKEN_AWAY)
def test_a_pod_that_is_taken_away_loses_no_step(how: str, played: dict[str, Future[None]]) -> None:
    played[how].result()


def test_a_suspended_job_commits_and_goes_on_from_there(played: dict[str, Future[None]]) -> None:
    played["suspended"].result()


def test_a_deleted_job_takes_its_pod_along_and_leaves_its_claim(
    played: dict[str, Future[None]],
) -> None:
    played["removed"].result()
