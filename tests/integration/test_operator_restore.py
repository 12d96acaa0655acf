"""Going back, forking, and waiting for a volume, against a real API server with played pods."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from rtj_api.heartbeat import Heartbeat, Position, TrainerPhase
from rtj_api.launch import TrainerConfig
from rtj_api.names import ANNOTATION_HEARTBEAT, CONFIG_ENV
from rtj_api.restore import RestoreAnswer
from rtj_operator.act import announce
from rtj_operator.cluster import (
    CLAIMS,
    EVENTS,
    JOBS,
    LEASES,
    NODES,
    PODS,
    AlreadyExistsError,
    Key,
    Kind,
    Manifest,
)
from rtj_operator.core.observed import Settings
from rtj_operator.kube import KubeCluster
from rtj_operator.memory import Memory
from rtj_operator.reconcile import Reconciler

from tests.integration.operator_world import claim_manifest, create_inputs, job_manifest

pytestmark = pytest.mark.integration

COMMITS = [f"{step:012d}-000001" for step in (30, 20, 10)]


class Played:
    """A job, the operator's turns at it, and what its pods and trainers do."""

    def __init__(self, cluster: KubeCluster, namespace: str, name: str = "job") -> None:
        self.cluster, self.namespace, self.key = cluster, namespace, Key(namespace, name)
        self.time = 0.0
        self.new_operator()

    def new_operator(self) -> None:
        self._memory = Memory(clock=lambda: self.time)
        self._reconciler = Reconciler(
            self.cluster, self._memory, Settings(), partial(announce, self.cluster)
        )

    async def turn(self) -> dict[str, Any]:
        """Let the operator look once; return the status after it."""
        self._memory.silences.contact()
        await self._reconciler(self.key)
        return dict((await self.job()).get("status", {}))

    async def job(self) -> Manifest:
        return await self.cluster.get(JOBS, self.namespace, self.key.name)

    async def pod(self, attempt: int) -> Manifest:
        return await self.cluster.get(PODS, self.namespace, f"{self.key.name}-{attempt}-0")

    async def bind(self, attempt: int, node: str) -> None:
        node = f"{node}.{self.namespace}"
        # Without it the cluster's collector would soon take the pod away as an orphan.
        with suppress(AlreadyExistsError):
            await self.cluster.create(NODES, "", {"metadata": {"name": node}})
        name = f"{self.key.name}-{attempt}-0"
        binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
        kind = Kind("v1", f"pods/{name}/binding", "Binding")
        await self.cluster.create(kind, self.namespace, binding)

    async def report(self, attempt: int, phase: str, state: dict[str, Any]) -> None:
        pod = await self.pod(attempt)
        status = {
            "name": "trainer",
            "image": "i",
            "imageID": "i",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
        pod["status"] = {**pod["status"], "phase": phase, "containerStatuses": [status]}
        await self.cluster.replace(PODS, self.namespace, pod, "status")

    async def beat(self, attempt: int, step: int, **fields: Any) -> None:
        beat = Heartbeat(
            attempt=attempt,
            phase=TrainerPhase.TRAINING,
            position=Position(step=step),
            commits=COMMITS,
            **fields,
        )
        lease = await self.cluster.get(LEASES, self.namespace, self.key.name)
        text = beat.model_dump_json(by_alias=True)
        lease["metadata"]["annotations"] = {ANNOTATION_HEARTBEAT: text}
        await self.cluster.replace(LEASES, self.namespace, lease)

    async def trains(self, attempt: int, step: int, **fields: Any) -> None:
        await self.bind(attempt, "node-a")
        await self.report(attempt, "Running", {"running": {}})
        await self.beat(attempt, step, **fields)

    async def told(self, attempt: int) -> TrainerConfig:
        env = (await self.pod(attempt))["spec"]["containers"][0]["env"]
        text = next(e["value"] for e in env if e["name"] == CONFIG_ENV)
        return TrainerConfig.model_validate_json(text.replace("$$", "$"))


@pytest.fixture
async def job(cluster: KubeCluster, namespace: str) -> Played:
    """A job whose first attempt trains."""
    await create_inputs(cluster, namespace)
    await cluster.create(JOBS, namespace, job_manifest("job"))
    played = Played(cluster, namespace)
    await played.turn()
    await played.trains(1, 33)
    await played.turn()
    return played


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in status["conditions"] if c["type"] == kind)


async def test_a_job_goes_back_once_although_the_operator_restarts(
    job: Played, kubectl: Callable[..., str]
) -> None:
    patch = json.dumps({"spec": {"restore": {"fromCommit": COMMITS[2]}}})
    where = ("rtj", "job", "-n", job.namespace, "--type=merge", "-p", patch)
    await asyncio.to_thread(kubectl, "patch", *where)
    assert (await job.turn())["commits"] == COMMITS
    assert "deletionTimestamp" in (await job.pod(1))["metadata"]
    job.new_operator()
    assert (await job.turn())["attempt"]["number"] == 1
    await asyncio.to_thread(
        kubectl, "delete", "pod", "job-1-0", "-n", job.namespace, "--force", "--grace-period=0"
    )
    job.new_operator()
    status = await job.turn()
    assert status["attempt"]["number"] == 2
    assert status["attempts"][0]["reason"] == "RestoreRequested"
    told = await job.told(2)
    assert told.restore
    assert told.restore.commit == COMMITS[2]
    answer = RestoreAnswer(request=told.restore.request, reason="Restored")
    await job.trains(2, 10, restore=answer)
    status = await job.turn()
    assert status["restore"]["outcome"] == "Restored"
    assert condition(status, "Restored")["status"] == "True"
    job.new_operator()
    assert (await job.turn())["attempt"]["number"] == 2
    assert status["restarts"]["total"] == 0


async def test_a_fork_keeps_the_uid_of_the_job_that_it_began_with(
    job: Played, namespace: str, cluster: KubeCluster
) -> None:
    fork = job_manifest("fork", forkFrom={"jobName": "job"}, totalSteps=99)
    await cluster.create(JOBS, namespace, fork)
    played = Played(cluster, namespace, "fork")
    waits = condition(await played.turn(), "Running")
    assert waits["reason"] == "ForkSourceNotFound"
    assert "has no commit yet" in waits["message"]
    commit = {"id": COMMITS[0], "step": 30, "time": "2026-01-01T00:00:00Z"}
    await job.beat(1, 33, commit=commit)
    job.time += Settings.mirror_interval
    await job.turn()
    uid = (await job.job())["metadata"]["uid"]
    assert (await played.turn())["forkedFrom"]["jobUid"] == uid
    await cluster.delete(JOBS, namespace, "job", uid)
    await cluster.create(JOBS, namespace, job_manifest("job"))
    played.new_operator()
    assert (await played.turn())["forkedFrom"]["jobUid"] == uid
    told = await played.told(1)
    assert told.fork_from
    assert told.fork_from.job_uid == uid


async def test_a_pod_that_waits_for_an_attached_volume_is_told_of_and_not_charged(
    cluster: KubeCluster, namespace: str
) -> None:
    await create_inputs(cluster, namespace)
    await cluster.create(CLAIMS, namespace, claim_manifest("single", "ReadWriteOnce"))
    manifest = job_manifest("job", checkpoint={"claimName": "single"})
    await cluster.create(JOBS, namespace, manifest)
    job = Played(cluster, namespace)
    await job.turn()
    await job.bind(1, "node-b")
    await job.report(1, "Pending", {"waiting": {"reason": "ContainerCreating"}})
    await job.turn()
    uid = (await job.pod(1))["metadata"]["uid"]
    for name, about in (("other", "another-uid"), ("ours", uid)):
        event = {
            "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", "namespace": namespace, "uid": about},
            "type": "Warning",
            "reason": "FailedAttachVolume",
            "message": f'Multi-Attach error for volume "pvc-{name}" Volume is already attached',
        }
        await cluster.create(EVENTS, namespace, event)
    job.time += 6
    status = await job.turn()
    running = condition(status, "Running")
    assert running["reason"] == "VolumeStillAttached"
    assert "claim single" in running["message"]
    assert "pvc-ours" in running["message"]
    assert "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute" in running["message"]
    await job.report(1, "Running", {"running": {}})
    await job.beat(1, 0)
    status = await job.turn()
    assert condition(status, "Running")["reason"] == "Training"
    assert status["attempt"]["number"] == 1
    assert status["restarts"]["total"] == 0
