"""The operator is SIGKILLed between each two of its writes; no pod is doubled, no job is lost."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from rtj_operator.cluster import JOBS, PODS, Kind, Manifest, NotFoundError, UnavailableError
from rtj_operator.kube import KubeCluster

from tests.integration.crd_install import install_crd
from tests.integration.operator_killer import KillingProxy, Operator
from tests.integration.operator_world import (
    PlayedNode,
    connect,
    create_inputs,
    job_manifest,
    load_configuration,
    wait_for_end,
)
from tests.integration.ports import free_port

pytestmark = pytest.mark.integration

LONGEST_SECONDS = 400
HANG_SECONDS = 10
"""The least that hangPolicy takes."""
ENDLESS = 100_000


@dataclass
class Killing:
    """A job whose operator is killed all the time, and the node that it runs on."""

    cluster: KubeCluster
    namespace: str
    node: PlayedNode
    operator: Operator
    proxy: KillingProxy
    log: Path
    background: set[asyncio.Task[None]]

    async def until(self, what: Coroutine[Any, Any, Manifest]) -> Manifest:
        """Wait for its result; fail if it takes too long, or if the node or the keeper ends."""
        awaited = asyncio.create_task(what)
        done, _ = await asyncio.wait(
            {awaited, *self.background},
            timeout=LONGEST_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in done:
            task.result()
        assert awaited in done, (self.proxy.writes, self.log.read_text()[-5000:])
        return awaited.result()

    async def status(self, holds: Callable[[Manifest], bool]) -> Manifest:
        """Wait for a status that is so."""

        async def wait() -> Manifest:
            while True:
                with contextlib.suppress(UnavailableError):  # A machine under load answers late.
                    job = await self.cluster.get(JOBS, self.namespace, "job")
                    if holds(job.get("status", {})):
                        return dict(job["status"])
                await asyncio.sleep(0.05)

        return await self.until(wait())

    async def gone(self, kind: Kind, name: str) -> None:
        """Wait until an object is not there any more."""

        async def wait() -> Manifest:
            while True:
                try:
                    await self.cluster.get(kind, self.namespace, name)
                except NotFoundError:
                    return {}
                except UnavailableError:
                    pass
                await asyncio.sleep(0.05)

        await self.until(wait())

    def written(self, method: str, what: str) -> list[int]:
        """Return the answers to its writes of that method to a path that ends so.

        A conflict changed nothing: somebody else, as a beating trainer, wrote since it was read.
        """
        path = f"/namespaces/{self.namespace}/{what}"
        answers = [s for m, p, s in self.proxy.writes if m == method and p.endswith(path)]
        return [status for status in answers if status != HTTPStatus.CONFLICT]


Kill = Callable[..., Any]


@pytest.fixture
def killing(kube_apiserver: Path, namespace: str, tmp_path: Path) -> Kill:
    """Create a job and a node, and kill the operator after every n-th of its writes."""

    @asynccontextmanager
    async def start(
        every: int, job: Manifest, play: Callable[[KubeCluster], PlayedNode]
    ) -> AsyncIterator[Killing]:
        install_crd(kube_apiserver)
        kubeconfig, log = tmp_path / "kubeconfig", tmp_path / "operator.log"
        environment = {
            "KUBECONFIG": str(kubeconfig),
            "RTJ_OPERATOR_NAMESPACE": namespace,
            # Its writes about jobs that other tests left behind would use up its lives.
            "RTJ_NAMESPACES": namespace,
            "RTJ_IDENTITY": "the-same-after-each-kill",
            "RTJ_HEALTH_PORT": str(free_port()),
        }
        operator = Operator(environment, log)
        upstream = await load_configuration(kube_apiserver)
        async with (
            await connect(kube_apiserver) as cluster,
            KillingProxy(upstream, operator.kill, every) as proxy,
        ):
            proxy.write_kubeconfig(kubeconfig)
            await create_inputs(cluster, namespace)
            await cluster.create(JOBS, namespace, job)
            node = play(cluster)
            background = {
                asyncio.create_task(operator.keep_alive()),
                asyncio.create_task(node.live()),
            }
            try:
                yield Killing(cluster, namespace, node, operator, proxy, log, background)
            finally:
                for task in background:
                    task.cancel()
                operator.kill()

    return start


@pytest.mark.parametrize(
    "every", [1, 2, 3], ids=["each write", "each second write", "each third write"]
)
async def test_a_job_lives_through_an_operator_that_is_killed_all_the_time(
    every: int, killing: Kill, namespace: str
) -> None:
    def play(cluster: KubeCluster) -> PlayedNode:
        return PlayedNode(cluster, namespace, preempted_at={1: 8, 2: 17})

    async with killing(every, job_manifest("job"), play) as life:
        status = await life.until(wait_for_end(life.cluster, namespace, "job"))
        pods = await life.cluster.list(PODS, namespace)

    assert status["phase"] == "Completed"
    assert [(a["number"], a["cause"]) for a in status["attempts"]] == [
        (1, "Preempted"),
        (2, "Preempted"),
        (3, "Completed"),
    ]
    assert status["restarts"]["total"] == status["restarts"]["preempted"] == 2
    assert sorted(pod["metadata"]["name"] for pod in pods) == ["job-1-0", "job-2-0", "job-3-0"]
    node, proxy = life.node, life.proxy
    assert len(node.containers) == len(set(node.containers)) == 3
    assert node.steps == {1: 8, 2: 17, 3: 30}
    assert proxy.kills >= 10 // every
    assert life.operator.starts > proxy.kills - 1


async def test_so_it_does_through_a_pause_a_hang_and_the_end_of_its_time_to_live(
    killing: Kill, namespace: str, kubectl: Callable[..., str]
) -> None:
    """What is never done in the history above: pods deleted, a question asked, a job deleted."""

    def play(cluster: KubeCluster) -> PlayedNode:
        # Killed after it wrote a new step, an operator would never get to more than the next.
        hangs_at = {1: 5, 2: 0}
        return PlayedNode(
            cluster, namespace, preempted_at={}, hangs_at=hangs_at, total_steps=ENDLESS
        )

    def change(**spec: Any) -> Awaitable[str]:
        patch = json.dumps({"spec": spec})
        where = ("rtj", "job", "-n", namespace, "--type=merge", "-p", patch)
        return asyncio.to_thread(kubectl, "patch", *where)

    job = job_manifest("job", totalSteps=ENDLESS, runPolicy={"backoffLimit": 0})
    async with killing(1, job, play) as life:
        await life.status(lambda status: status.get("phase") == "Running")
        await change(runPolicy={"suspend": True})
        paused = await life.status(lambda status: status["phase"] == "Suspended")
        # Not before, or the first attempt might hang for so long until it is suspended.
        hang = {"trainingTimeoutSeconds": HANG_SECONDS}
        await change(runPolicy={"suspend": False}, hangPolicy=hang)
        status = await life.until(wait_for_end(life.cluster, namespace, "job"))
        await life.gone(PODS, "job-2-0")
        await change(runPolicy={"ttlSecondsAfterFinished": 0})
        await life.gone(JOBS, "job")

    assert [a["cause"] for a in paused["attempts"]] == ["Suspended"]
    assert status["phase"] == "Failed"
    assert [(a["number"], a["cause"]) for a in status["attempts"]] == [
        (1, "Suspended"),
        (2, "Hung"),
    ]
    assert status["restarts"]["total"] == 0
    assert len(life.node.containers) == len(set(life.node.containers)) == 2
    assert [life.written("DELETE", f"pods/job-{number}-0") for number in (1, 2)] == [[200], [200]]
    assert life.written("PUT", "leases/job") == [200], "it is asked once"
    assert life.written("DELETE", "resumabletrainingjobs/job") == [200]
    assert life.operator.starts > life.proxy.kills - 1
