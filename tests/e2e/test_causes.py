"""Every way in which an attempt can end, made to happen on real nodes, and what its user then sees.

All jobs run side by side and are struck once each; then each ending is looked at in a test of its
own. Graceful node shutdown needs logind, which the nodes here do not have: that one is told to the
API server in the kubelet's words. Others are in test_disruptions, test_node_death, test_hang and
test_bad_input.
"""

import copy
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from rtj_demo.jobs import FINAL_PHASES, Job
from rtj_demo.kube import Kube, wait_for
from rtj_devcluster.cluster import Cluster

from tests.e2e import endings
from tests.e2e.endings import BY_OTHERS, OF_ITSELF, ON_A_NODE_OF_ITS_OWN
from tests.e2e.support import job_folder, sigkill_trainer

pytestmark = pytest.mark.e2e

ALL = {**OF_ITSELF, **BY_OTHERS, **ON_A_NODE_OF_ITS_OWN}
VIP = "more-important"


@dataclass(frozen=True)
class Scene:
    """Where all of it happens."""

    kube: Kube
    cluster: Cluster
    namespace: str

    def job(self, name: str) -> Job:
        return Job(self.kube, self.namespace, name)

    def pod(self, name: str) -> dict[str, Any]:
        """Return the pod of a job's first attempt, once it runs and status names it."""

        def running() -> dict[str, Any] | None:
            label = f"resumable.training/job-name={name}"
            pods = self.kube.list("pods", self.namespace, label)
            return next((p for p in pods if p["status"]["phase"] == "Running"), None)

        pod = wait_for(f"the pod of {name} to run", running, 120)

        def known(status: dict[str, Any]) -> bool:
            return bool(status.get("attempt", {}).get("podUid") == pod["metadata"]["uid"])

        self.job(name).wait_until("its pod to be known", known, 60)
        return pod

    def patch(self, kind: str, name: str, change: dict[str, Any], *options: str) -> None:
        command = ("patch", kind, name, "-n", self.namespace, "-p", json.dumps(change), *options)
        self.kube.run(*command)

    def create(self, api_version: str, kind: str, name: str, **fields: Any) -> None:
        made = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}
        self.kube.run("create", "-n", self.namespace, "-f", "-", stdin=json.dumps(made))

    def submit(self, name: str, **pod: Any) -> None:
        """Create the job of an ending, with these fields laid over its pod's spec."""
        spec = copy.deepcopy(endings.spec_of(ALL[name]))
        spec["trainer"].setdefault("podTemplate", {}).setdefault("spec", {}).update(pod)
        self.create("resumable.training/v1alpha1", "ResumableTrainingJob", name, spec=spec)


def _at(preference: str, *nodes: str) -> dict[str, Any]:
    """Return an affinity: `required` or `preferred` on one of these nodes."""
    term = {"matchExpressions": [{"key": endings.HOST, "operator": "In", "values": [*nodes]}]}
    during = f"{preference}DuringSchedulingIgnoredDuringExecution"
    wanted: Any = [{"weight": 50, "preference": term}]
    if preference == "required":
        wanted = {"nodeSelectorTerms": [term]}
    return {"nodeAffinity": {during: wanted}}


# What others do


def _lose_process(scene: Scene, name: str) -> None:
    """Kill the trainer from outside, when its builder is no longer what it was."""
    job = scene.job(name)
    wait_for("a first commit", lambda: job.heartbeat().get("commit"), 180)
    changed = endings.BUILDER.read_text() + "\n# Changed on a live job.\n"
    scene.patch("configmap", "changing", {"data": {"endings.py": changed}})
    sigkill_trainer(job)


def _outrank(scene: Scene, name: str) -> None:
    """Ask for the GPU with a higher priority."""
    node = scene.pod(name)["spec"]["nodeName"]
    spec = endings.idle_on(node, resources=endings.GPU)
    scene.create("v1", "Pod", VIP, spec={**spec, "priorityClassName": scene.namespace})


def _shut_node_down(scene: Scene, name: str) -> None:
    """Write what a kubelet of 1.35 writes when logind announces a shutdown."""
    message = "Pod was terminated in response to imminent node shutdown."
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    status = {
        "phase": "Failed",
        "reason": "Terminated",
        "message": message,
        "conditions": [{**condition, "message": message}],
    }
    pod = scene.pod(name)["metadata"]["name"]
    scene.patch("pod", pod, {"status": status}, "--subresource=status")


def _stop_by_queue(scene: Scene, name: str) -> None:
    """Mark and delete the pod, as Kueue does with one that has lost its place."""
    pod = scene.pod(name)["metadata"]["name"]
    condition = {"type": "TerminationTarget", "status": "True", "reason": "StoppedByKueue"}
    scene.patch("pod", pod, {"status": {"conditions": [condition]}}, "--subresource=status")
    scene.kube.run("delete", "pod", pod, "-n", scene.namespace, "--wait=false")


def _delete_by_force(scene: Scene, name: str) -> None:
    pod = scene.pod(name)["metadata"]["name"]
    scene.kube.run("delete", "pod", pod, "-n", scene.namespace, "--force", "--grace-period=0")


def _put_fence_of_another(scene: Scene, name: str) -> None:
    """Have a newer attempt on the volume, as after a restore of the cluster from a backup."""
    job = scene.job(name)
    job.wait_until("it to rest", lambda status: status.get("phase") == "Suspended", 60)
    fences = job_folder(job) / "attempts"
    fences.mkdir(parents=True)
    (fences / "000007.json").write_text("{}")
    for folder in (fences.parent, fences):
        folder.chmod(0o777)
    scene.patch("rtj", name, {"spec": {"runPolicy": {"suspend": False}}}, "--type=merge")


STRIKES: dict[str, Callable[[Scene, str], None]] = {
    "loses-its-process": _lose_process,
    "is-outranked": _outrank,
    "is-on-a-node-that-shuts-down": _shut_node_down,
    "is-stopped-by-a-queue": _stop_by_queue,
    "is-deleted-by-force": _delete_by_force,
    "is-not-the-newest": _put_fence_of_another,
}


def _await_scheduler(scene: Scene, node: str) -> None:
    """Wait until the scheduler sends pods to a node; until then a preference for it is in vain."""
    spec = {**endings.idle_on(node), "tolerations": endings.TOLERANT}
    scene.create("v1", "Pod", "first", spec=spec)
    pod = ("pod/first", "-n", scene.namespace)
    scene.kube.run("wait", *pod, "--for=condition=Ready", "--timeout=120s")
    scene.kube.run("delete", *pod)


def _strike_node(scene: Scene) -> None:
    """Add a node; announce its maintenance, restart it, and take it away for good."""
    maintained, restarting, deleted = ON_A_NODE_OF_ITS_OWN
    node = scene.cluster.add_node()
    try:
        _await_scheduler(scene, node)
        for name in (maintained, restarting):
            scene.submit(name, affinity=_at("preferred", node))
        for name in (maintained, restarting):
            assert scene.pod(name)["spec"]["nodeName"] == node
        scene.kube.run("taint", "node", node, f"{endings.MAINTENANCE}:NoExecute")
        scene.job(maintained).wait_until("its pod to be evicted", lambda s: s.get("attempts"), 60)
        scene.cluster.kill_node(node)
        scene.cluster.add_node(node)
        scene.job(restarting).wait_until("its pod to be lost", lambda s: s.get("attempts"), 60)
        _await_scheduler(scene, node)
        scene.submit(deleted, affinity=_at("preferred", node))
        assert scene.pod(deleted)["spec"]["nodeName"] == node
    finally:
        scene.cluster.delete_node(node)


@pytest.fixture(scope="module")
def scene(operator: None, cluster: Cluster, kube: Kube) -> Iterator[Scene]:
    """All jobs, each ended once, and the cluster as it was before."""
    scene = Scene(kube, cluster, f"test-{uuid.uuid4().hex[:8]}")
    kube.run("create", "namespace", scene.namespace)
    scene.create("scheduling.k8s.io/v1", "PriorityClass", scene.namespace, value=1000)
    try:
        _play(scene)
        yield scene
    finally:
        kube.run("delete", "namespace", scene.namespace, "--wait=false")
        kube.run("delete", "priorityclass", scene.namespace)


def _play(scene: Scene) -> None:
    """Submit the jobs, strike those that do not end by themselves, and wait for all to be over."""
    nodes = scene.cluster.node_names
    _create_what_jobs_need(scene)
    with ThreadPoolExecutor(len(STRIKES) + 1) as pool:
        strikes = [pool.submit(_strike_node, scene)]
        for name in (*OF_ITSELF, *BY_OTHERS):
            place = {"affinity": _at("required", *nodes)}
            if name == "is-refused-by-its-node":
                place = {"nodeName": nodes[0]}  # The scheduler would never send it there.
            scene.submit(name, **place)
        strikes += [pool.submit(strike, scene, name) for name, strike in STRIKES.items()]
        for strike in strikes:
            strike.result()
    _await_ends(scene)


def _create_what_jobs_need(scene: Scene) -> None:
    request = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    scene.create("v1", "PersistentVolumeClaim", endings.CLAIM, spec=request)
    builder = {"endings.py": endings.BUILDER.read_text()}
    for name in ("endings", "changing"):
        scene.create("v1", "ConfigMap", name, data=builder)


def _await_ends(scene: Scene) -> None:
    def going_on() -> dict[str, Any]:
        jobs = scene.kube.list("rtj", scene.namespace)
        status = {job["metadata"]["name"]: job.get("status", {}) for job in jobs}
        return {name: s for name, s in status.items() if s.get("phase") not in FINAL_PHASES}

    try:
        wait_for("all jobs to end", lambda: not going_on(), 180)
    except TimeoutError as error:
        left = {name: json.dumps(status) for name, status in going_on().items()}
        raise AssertionError(f"{error}; left are {left}") from error


@pytest.mark.parametrize("name", ALL)
def test_what_ended_an_attempt_is_told_in_status_conditions_and_events(
    name: str, scene: Scene
) -> None:
    ending = ALL[name]
    status = scene.job(name).status()
    ended = status["attempts"][0]
    assert (ended["cause"], ended["reason"]) == (ending.cause, ending.reason)
    if ending.exit_code is not None:
        assert ended["exitCode"] == ending.exit_code
    counted = {kind: count for kind, count in status["restarts"].items() if count}
    assert counted == ending.restarts
    assert status["phase"] == ("Completed" if ending.condition == "Completed" else "Failed")

    assert _last_condition(status)["reason"] == ending.condition
    for word in ending.words:
        assert word in ended["message"]

    def told_in_events() -> bool:
        described = scene.kube.run("describe", "rtj", name, "-n", scene.namespace)
        _, _, events = described.partition("Events:")
        told = [line for line in events.splitlines() if (ending.event or ending.reason) in line]
        return all(any(word in line for line in told) for word in ending.words)

    # They are posted after the status is written.
    wait_for(f"the Events to tell {ending.words}", told_in_events, 60)


def _last_condition(status: dict[str, Any]) -> dict[str, Any]:
    """Return the condition that says how the job ended."""
    last: dict[str, Any] = next(
        c for c in status["conditions"] if c["type"] in ("Complete", "Failed")
    )
    return last
