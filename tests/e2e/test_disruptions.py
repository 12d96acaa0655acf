"""Whatever takes a pod away, the job goes on from its last commit and says what happened."""

import json
from collections.abc import Callable

import pytest
from rtj_demo.jobs import Job, load_example, submit
from rtj_demo.kube import Kube, wait_for

pytestmark = pytest.mark.e2e


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


TAKE_AWAY: dict[str, Callable[[Job], None]] = {
    "deleted": _delete,
    "evicted": _evict,
    "drained": _drain,
}


@pytest.fixture
def all_nodes_schedulable(kube: Kube) -> object:
    yield
    kube.run("uncordon", "-l", "kubernetes.io/hostname")


@pytest.mark.parametrize("how", TAKE_AWAY)
@pytest.mark.usefixtures("operator", "all_nodes_schedulable")
def test_a_pod_that_is_taken_away_loses_no_step(how: str, kube: Kube, namespace: str) -> None:
    job = submit(kube, namespace, load_example("iterator", how))
    wait_for("training to be under way", lambda: job.step() > 20 or None, 120)
    TAKE_AWAY[how](job)
    status = job.wait_until(
        "the second attempt to train",
        lambda s: s.get("attempt", {}).get("number") == 2 and "runningTime" in s["attempt"],
    )
    ended = status["attempts"][0]
    assert ended["cause"] == "Preempted"
    # The trainer had its grace period: the last commit is the last step that it trained.
    assert ended["committedStep"] == ended["lastStep"]
    assert status["attempt"]["firstStep"] == ended["committedStep"]
    final = job.wait_for_end()
    assert final["phase"] == "Completed"
    assert (final["restarts"]["preempted"], final["restarts"]["total"]) == (1, 1)


@pytest.mark.usefixtures("operator")
def test_a_suspended_job_commits_and_goes_on_from_there(kube: Kube, namespace: str) -> None:
    job = submit(kube, namespace, load_example("iterator", "paused"))
    wait_for("training to be under way", lambda: job.step() > 20 or None, 120)
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


def _patch(job: Job, spec: dict[str, object]) -> None:
    patch = json.dumps({"spec": spec})
    job.kube.run("patch", "rtj", job.name, "-n", job.namespace, "--type=merge", "-p", patch)


@pytest.mark.usefixtures("operator")
def test_a_deleted_job_takes_its_pod_along_and_leaves_its_claim(kube: Kube, namespace: str) -> None:
    job = submit(kube, namespace, load_example("iterator", "gone"))
    wait_for("training to be under way", lambda: job.step() > 0 or None, 120)
    kube.run("delete", "rtj", job.name, "-n", namespace)
    label = f"resumable.training/job-name={job.name}"
    wait_for("its pod to go", lambda: not kube.list("pods", namespace, label), 90)
    wait_for("its Lease to go", lambda: not kube.list("leases", namespace, label), 30)
    assert kube.list("persistentvolumeclaims", namespace)
