"""What the operator's integration tests share: a node that the test plays, on a real API server.

There is no kubelet behind that API server, so these few lines bind pods, report containers, and
beat the Lease as a trainer would.
"""

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes.aio import client, config
from rtj_api import names
from rtj_api.heartbeat import (
    CommitRef,
    FinalRecord,
    Heartbeat,
    Position,
    StackDump,
    TrainerPhase,
)
from rtj_api.names import (
    ANNOTATION_DUMP_STACKS,
    ANNOTATION_HEARTBEAT,
    LABEL_ATTEMPT,
    ExitCode,
    Reason,
)
from rtj_operator.cluster import (
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    LEASES,
    NODE_LEASES,
    NODES,
    PODS,
    AlreadyExistsError,
    ConflictError,
    Kind,
    Manifest,
    NotFoundError,
    UnavailableError,
)
from rtj_operator.kube import KubeCluster

TOTAL_STEPS = 30
RENEW_SECONDS = 2.0


async def load_configuration(kubeconfig: Path) -> client.Configuration:
    """Read a kubeconfig."""
    configuration = client.Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    return configuration


async def connect(kubeconfig: Path) -> KubeCluster:
    """Open the adapter under test with an administrator's rights."""
    return KubeCluster(client.ApiClient(await load_configuration(kubeconfig)))


def job_manifest(name: str, **spec: Any) -> Manifest:
    """Return a job that needs the ConfigMap `code` and the claim `work`."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {
            "builder": {"configMap": {"name": "code"}},
            "totalSteps": TOTAL_STEPS,
            "checkpoint": {"claimName": "work"},
            "trainer": {"image": "docker.io/library/rtj-trainer:dev", "gracePeriodSeconds": 5},
            **spec,
        },
    }


async def create_inputs(cluster: KubeCluster, namespace: str) -> None:
    """Create what a job mounts."""
    code = {"metadata": {"name": "code"}, "data": {"builder.py": ""}}
    await cluster.create(CONFIG_MAPS, namespace, code)
    await cluster.create(CLAIMS, namespace, claim_manifest("work", "ReadWriteMany"))


def claim_manifest(name: str, access: str) -> Manifest:
    """Return a claim for a volume that can be mounted so."""
    resources = {"requests": {"storage": "1Gi"}}
    return {
        "metadata": {"name": name},
        "spec": {"accessModes": [access], "resources": resources},
    }


class PlayedNode:
    """A node, its kubelet and its trainers."""

    def __init__(
        self,
        cluster: KubeCluster,
        namespace: str,
        preempted_at: dict[int, int],
        *,
        hangs_at: dict[int, int] | None = None,
        job: str = "",
        total_steps: int = TOTAL_STEPS,
        step_seconds: float = 0.1,
        commits: bool = False,
        warns_in: int | None = None,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.name = f"node-{namespace}-{job}" if job else f"node-{namespace}"
        self._selector = f"{names.LABEL_JOB}={job}" if job else names.LABEL_JOB
        self._total_steps = total_steps
        self._step_seconds = step_seconds
        self._commits = commits
        """Whether each step is committed; else only the last of an attempt."""
        self._warns_in = warns_in
        """The attempt of which each beat warns in other words; None for none."""
        self._renewed = 0.0
        self._preempted_at = preempted_at
        """By attempt, the step at which its trainer is asked to stop."""
        self._hangs_at = hangs_at or {}
        """By attempt, the step from which its trainer takes no other, until its pod is deleted."""
        self.steps: dict[int, int] = {}
        """By attempt, how far its trainer came."""
        self.containers: list[str] = []
        """Uids of the pods whose container ran."""
        self._commit: CommitRef | None = None

    async def live(self) -> None:
        """Play until cancelled."""
        await self._create(NODES, "", {"metadata": {"name": self.name}})
        lease = {"metadata": {"name": self.name}, "spec": {"renewTime": _now()}}
        await self._create(LEASES, NODE_LEASES, lease)
        while True:
            with contextlib.suppress(UnavailableError):  # A kubelet tries again, too.
                await self._round()
            await asyncio.sleep(self._step_seconds)

    async def _create(self, kind: Kind, namespace: str, manifest: Manifest) -> None:
        """Create it, asking again where nobody answers, though it may have been done."""
        while True:
            try:
                await self._cluster.create(kind, namespace, manifest)
            except UnavailableError:
                await asyncio.sleep(self._step_seconds)
            except AlreadyExistsError:
                return
            else:
                return

    async def _round(self) -> None:
        for pod in await self._cluster.list(PODS, self._namespace, self._selector):
            try:
                await self._play(pod)
            except (ConflictError, NotFoundError):
                continue  # The operator was faster; look again.
        if self._renewed + RENEW_SECONDS > time.monotonic():
            return
        lease = await self._cluster.get(LEASES, NODE_LEASES, self.name)
        lease["spec"]["renewTime"] = _now()
        await self._cluster.replace(LEASES, NODE_LEASES, lease)
        self._renewed = time.monotonic()

    async def _play(self, pod: Manifest) -> None:
        if not pod["spec"].get("nodeName"):
            await self._bind(pod["metadata"]["name"])
        elif pod["status"]["phase"] == "Pending":
            await self._report(pod, "Running", {"running": {}})
            self._note_container(pod)
        elif pod["status"]["phase"] == "Running":
            self._note_container(pod)  # The answer to the report may have been lost.
            await self._train(pod)
        if "deletionTimestamp" in pod["metadata"]:
            await self._remove(pod["metadata"])

    async def _remove(self, pod: Manifest) -> None:
        """Let the object of a pod whose container has ended go, as only a kubelet does it."""
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod['name']}"
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["uid"]}}
        await self._cluster._call("delete", PODS, path, [], options)

    def _note_container(self, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self.containers:
            self.containers.append(uid)

    async def _bind(self, pod: str) -> None:
        binding = {"metadata": {"name": pod}, "target": {"kind": "Node", "name": self.name}}
        kind = Kind("v1", f"pods/{pod}/binding", "Binding")
        await self._cluster.create(kind, self._namespace, binding)

    async def _train(self, pod: Manifest) -> None:
        """Train a step, or say again what was not heard of the last one."""
        attempt = int(pod["metadata"]["labels"][LABEL_ATTEMPT])
        start = self._commit.step if self._commit else 0
        last = self._preempted_at.get(attempt, self._total_steps)
        step, final = self.steps.get(attempt, start), None
        if "deletionTimestamp" in pod["metadata"]:
            final = _record(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED)
        else:
            step = min(step + 1, last, self._hangs_at.get(attempt, last))
        if final is None and step == self._total_steps:
            final = _record(ExitCode.COMPLETED, Reason.COMPLETED)
        elif final is None and step == last:
            final = _record(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED)
        commit = self._commit
        if final or self._commits:
            name = f"{step:012d}-{attempt:06d}"
            commit = CommitRef(id=name, step=step, time=datetime.now(UTC))
        await self._beat(pod, attempt, step, commit, final)
        self.steps[attempt], self._commit = step, commit
        if final:
            phase = "Succeeded" if final.exit_code == 0 else "Failed"
            message = final.model_dump_json(by_alias=True)
            await self._report(
                pod, phase, {"terminated": {"exitCode": final.exit_code, "message": message}}
            )

    async def _beat(
        self,
        pod: Manifest,
        attempt: int,
        step: int,
        commit: CommitRef | None,
        final: FinalRecord | None,
    ) -> None:
        skipped = f"commit at step {step} was skipped: No space left on device"
        warning = FinalRecord(exit_code=0, reason=Reason.COMMIT_SKIPPED, message=skipped)
        job = pod["metadata"]["labels"][names.LABEL_JOB]
        lease = await self._cluster.get(LEASES, self._namespace, job)
        annotations = lease["metadata"].setdefault("annotations", {})
        asked = annotations.get(ANNOTATION_DUMP_STACKS)
        beat = Heartbeat(
            attempt=attempt,
            phase=TrainerPhase.FINISHED if final else TrainerPhase.TRAINING,
            position=Position(step=step, total_steps=self._total_steps),
            commit=commit,
            warning=warning if attempt == self._warns_in else None,
            stacks=StackDump(standstill=asked) if asked else None,
            final=final,
        )
        annotations[ANNOTATION_HEARTBEAT] = beat.model_dump_json(by_alias=True)
        lease["spec"] = {
            "holderIdentity": pod["metadata"]["uid"],
            "leaseTransitions": attempt,
            "renewTime": _now(),
        }
        await self._cluster.replace(LEASES, self._namespace, lease)

    async def _report(self, pod: Manifest, phase: str, state: dict[str, Any]) -> None:
        status = {
            "name": names.TRAINER_CONTAINER,
            "image": "i",
            "imageID": "i",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
        pod["status"] = {**pod["status"], "phase": phase, "containerStatuses": [status]}
        await self._cluster.replace(PODS, self._namespace, pod, "status")


async def wait_for_end(cluster: KubeCluster, namespace: str, name: str) -> Manifest:
    """Wait until the job is Completed or Failed, and return its status."""
    while True:
        with contextlib.suppress(UnavailableError):  # A machine under load answers late.
            status: Manifest = (await cluster.get(JOBS, namespace, name)).get("status", {})
            if status.get("phase") in ("Completed", "Failed"):
                return status
        await asyncio.sleep(0.1)


def _record(code: ExitCode, reason: Reason) -> FinalRecord:
    return FinalRecord(exit_code=code, reason=reason, message=f"The played trainer: {reason}.")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
