"""A trial: jobs are preempted while something is wrong between the operator and its cluster."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from kubernetes.aio import client
from rtj_operator.cluster import JOBS, LEASES, PODS, Kind, Manifest
from rtj_operator.kube import KubeCluster
from rtj_operator.leader import LEASE_NAME

from tests.integration.operator_faults import FaultyProxy, Record
from tests.integration.operator_killer import Operator
from tests.integration.operator_world import (
    PlayedNode,
    connect,
    create_inputs,
    job_manifest,
    wait_for_end,
)
from tests.integration.ports import free_port

NAMESPACES = Kind("v1", "namespaces", "Namespace", namespaced=False)
LONGEST_SECONDS = 400.0
STEP_SECONDS = 0.4
PREEMPTED = ("one", "two")
PREEMPTED_AT = {1: 4, 2: 8}
PREEMPTED_STEPS = 12
STEADY = "steady"
"""The job that nobody preempts, and nobody may."""


class Trial:
    """Three jobs in a namespace of their own, and the operators that look after them."""

    def __init__(
        self,
        cluster: KubeCluster,
        upstream: client.Configuration,
        folder: Path,
        fault: type[FaultyProxy],
        *,
        operators: int = 1,
        steady_steps: int = 25,
        disturb: Callable[["Trial"], Awaitable[None]] | None = None,
        shared_fate: bool = False,
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._disturb = disturb
        self._steady_steps = steady_steps
        self._shared_fate = shared_fate
        """Whether the nodes reach the API server by the same faulty way."""
        self.namespace = f"trial-{uuid.uuid4().hex[:8]}"
        self.record = Record()
        self.proxies = [fault(upstream, self.record) for _ in range(operators)]
        self._operators: list[Operator] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._nodes: dict[str, PlayedNode] = {}

    async def run(self) -> list[str]:
        """Live through it; return what went wrong."""
        namespace = {"metadata": {"name": self.namespace}}
        await self._cluster.create(NAMESPACES, "", namespace)
        await create_inputs(self._cluster, self.namespace)
        async with AsyncExitStack() as stack:
            for proxy in self.proxies:
                await stack.enter_async_context(proxy)
            self._start_operators()
            background = await self._start_jobs(stack)
            if self._disturb:
                background.append(asyncio.create_task(self._disturb(self)))
            try:
                statuses = await self._ends()
            except TimeoutError:
                return [f"it takes too long; {self._logs()}"]
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
                for number in range(len(self._operators)):
                    self.kill(number)
            pods = await self._cluster.list(PODS, self.namespace)
        return [*self._wrong_with_jobs(statuses), *self._wrong_with_pods(pods)]

    def kill(self, number: int) -> None:
        """End an operator for good."""
        self._keepers[number].cancel()
        self._operators[number].kill()

    async def leader(self) -> int:
        """Return which operator leads."""
        lease = await self._cluster.get(LEASES, self.namespace, LEASE_NAME)
        return int(lease["spec"]["holderIdentity"].removeprefix("operator-"))

    async def middle(self) -> None:
        """Wait until every job trains."""
        while any(node.steps.get(1, 0) < 2 for node in self._nodes.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def _start_operators(self) -> None:
        for number, proxy in enumerate(self.proxies):
            kubeconfig = self._folder / f"kubeconfig-{number}"
            self._folder.mkdir(exist_ok=True)
            proxy.write_kubeconfig(kubeconfig)
            environment = environment_of(number, kubeconfig, self.namespace)
            operator = Operator(environment, self._folder / f"log-{number}")
            self._operators.append(operator)
            self._keepers.append(asyncio.create_task(operator.keep_alive()))

    async def _start_jobs(self, stack: AsyncExitStack) -> list[asyncio.Task[None]]:
        cluster = self._cluster
        if self._shared_fate:
            kubeconfig = self._folder / "kubeconfig-0"
            cluster = await stack.enter_async_context(await connect(kubeconfig))
        steps = dict.fromkeys(PREEMPTED, PREEMPTED_STEPS) | {STEADY: self._steady_steps}
        for job, total in steps.items():
            await self._cluster.create(JOBS, self.namespace, job_manifest(job, totalSteps=total))
            self._nodes[job] = PlayedNode(
                cluster,
                self.namespace,
                PREEMPTED_AT if job in PREEMPTED else {},
                job=job,
                total_steps=total,
                step_seconds=STEP_SECONDS,
            )
        return [asyncio.create_task(node.live()) for node in self._nodes.values()]

    async def _ends(self) -> dict[str, Manifest]:
        waits = [wait_for_end(self._cluster, self.namespace, job) for job in self._nodes]
        statuses = await asyncio.wait_for(asyncio.gather(*waits), LONGEST_SECONDS)
        return dict(zip(self._nodes, statuses, strict=True))

    def _wrong_with_jobs(self, statuses: dict[str, Manifest]) -> list[str]:
        wrong = []
        for job, status in statuses.items():
            want = _attempts_of(job)
            ended = [(a["number"], a["reason"]) for a in status["attempts"]]
            if ended != want or status["restarts"]["total"] != len(want) - 1:
                wrong.append(f"{job} went through {ended}: {status}")
            numbers = self.record.attempts.get(job, [])
            if numbers != sorted(numbers):
                wrong.append(f"the attempts of {job} do not grow: {numbers}")
            ran = self._nodes[job].containers
            if len(ran) != len(want):
                wrong.append(f"{job} ran {len(ran)} containers")
        if self.record.impatient:
            wrong.append(f"asked again too early: {self.record.impatient}")
        if not sum(proxy.faults for proxy in self.proxies):
            wrong.append("the fault never happened")
        return wrong

    def _wrong_with_pods(self, pods: list[Manifest]) -> list[str]:
        want = sorted(f"{job}-{n}-0" for job in self._nodes for n, _ in _attempts_of(job))
        there = sorted(pod["metadata"]["name"] for pod in pods)
        wrong = [] if there == want else [f"there are the pods {there}"]
        if sorted(self.record.created_pods) != want:
            wrong.append(f"created were {sorted(self.record.created_pods)}")
        if self.record.deleted_pods:
            wrong.append(f"deleted were {self.record.deleted_pods}")
        return wrong

    def _logs(self) -> str:
        return "\n".join(log.read_text()[-3000:] for log in sorted(self._folder.glob("log-*")))


def _attempts_of(job: str) -> list[tuple[int, Any]]:
    if job == STEADY:
        return [(1, "Completed")]
    return [(1, "TrainerPreempted"), (2, "TrainerPreempted"), (3, "Completed")]


def environment_of(number: int, kubeconfig: Path, namespace: str) -> dict[str, str]:
    """Return what an operator is told that looks after one namespace."""
    return {
        "KUBECONFIG": str(kubeconfig),
        "RTJ_NAMESPACES": namespace,
        "RTJ_OPERATOR_NAMESPACE": namespace,
        "RTJ_IDENTITY": f"operator-{number}",
        "RTJ_HEALTH_PORT": str(free_port()),
    }
