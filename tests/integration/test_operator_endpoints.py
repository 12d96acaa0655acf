"""What the operator's process answers to the kubelet and to Prometheus."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

import aiohttp
import pytest
from aiohttp import web
from rtj_operator.cluster import JOBS, LEASES
from rtj_operator.kube import KubeCluster
from rtj_operator.leader import LEASE_NAME

from tests.integration.api_proxy import ApiProxy, HungUpError, watches
from tests.integration.crd_install import install_crd
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

WATCH_SILENCE_SECONDS = 10
IMPATIENT = f"""
from rtj_operator import __main__, health, leader
health.LONGEST_UNREACHED_SECONDS = 6.0
health.LONGEST_WATCH_SILENCE_SECONDS = {WATCH_SILENCE_SECONDS}
leader.RENEW_DEADLINE_SECONDS = 60.0  # Nobody else wants its Lease, however slow the machine is.
"""
RENEWED = {"leaseTransitions": 1}
STUCK = """
import asyncio
health.LONGEST_TURN_SECONDS = 2.0
async def never(self, key):
    await asyncio.Event().wait()
__main__.Reconciler.__call__ = never
"""


class Operator:
    """The operator as a process, asked over HTTP."""

    def __init__(
        self, namespace: str, kubeconfig: Path, log: Path, code: str = "", **environment: str
    ) -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._code = f"{IMPATIENT}{code}\n__main__.main()"
        self._log = log
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "RTJ_OPERATOR_NAMESPACE": namespace,
            "RTJ_HEALTH_PORT": str(port),
            **environment,
        }

    async def __aenter__(self) -> Self:
        with self._log.open("w") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", self._code), env=self._environment, stderr=output
            )
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def get(self, path: str) -> tuple[int, str]:
        """Return status and text; (0, "") before the process listens."""
        assert self._process.returncode is None, self._log.read_text()
        try:
            async with self._session.get(self._url + path) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def until(self, path: str, status: int, text: str = "", seconds: float = 45) -> None:
        """Wait for an answer; until then the process must live."""
        answer = None
        try:
            async with asyncio.timeout(seconds):
                while not answer or answer[0] != status or text not in answer[1]:
                    await asyncio.sleep(0.2)
                    answer = await self.get(path)
        except TimeoutError:
            pytest.fail(f"{path} still answers {answer}; {self._log.read_text()}")

    async def metrics(self) -> dict[str, float]:
        """Return the samples by name and labels, as they are spelt in the text."""
        status, text = await self.get("/metrics")
        assert status == 200
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


class MoodyProxy(ApiProxy):
    """An API server that can go away, and whose watches can fall silent."""

    away = False
    silent = False
    looks = 0
    """How often somebody began to read the leader's Lease."""

    async def looked(self) -> None:
        """Return when who waits to lead has looked at the Lease once more, from begin to end."""
        begun = self.looks
        async with asyncio.timeout(60):
            while self.looks < begun + 2:  # noqa: ASYNC110 - it is another process that looks
                await asyncio.sleep(0.05)

    async def asked(self, request: web.Request) -> web.Response | None:
        """Hang up while away."""
        if self.away:
            raise HungUpError
        self.looks += request.method == "GET" and request.path.endswith(f"/leases/{LEASE_NAME}")
        return None

    async def relayed(self, request: web.Request, chunk: bytes) -> bytes:
        """Hang up while away; say nothing of the watches while silent."""
        if self.away:
            raise HungUpError
        return b"" if self.silent and watches(request) else chunk


@pytest.fixture
async def proxy(kube_apiserver: Path) -> AsyncIterator[MoodyProxy]:
    """Between the operator and the API server, which has the CRD."""
    install_crd(kube_apiserver)
    async with MoodyProxy(await load_configuration(kube_apiserver)) as proxy:
        yield proxy


@pytest.fixture
async def cluster(kube_apiserver: Path) -> AsyncIterator[KubeCluster]:
    """The API server itself."""
    async with await connect(kube_apiserver) as cluster:
        yield cluster


@pytest.fixture
def start(proxy: MoodyProxy, namespace: str, tmp_path: Path) -> Callable[..., Operator]:
    """Make an operator behind the proxy; more code may be run in its process beforehand."""
    proxy.write_kubeconfig(tmp_path / "kubeconfig")
    return lambda code="", **environment: Operator(
        namespace, tmp_path / "kubeconfig", tmp_path / "operator.log", code, **environment
    )


def requests(metrics: dict[str, float], verb: str, resource: str, code: str) -> float:
    """Return how often the API server was asked for that."""
    labels = f'code="{code}",resource="{resource}",verb="{verb}"'
    return metrics.get(f"rtj_api_requests_total{{{labels}}}", 0)


async def test_the_metrics_tell_how_a_job_was_preempted_and_came_to_its_end(
    start: Callable[..., Operator], cluster: KubeCluster, namespace: str
) -> None:
    await create_inputs(cluster, namespace)
    node = PlayedNode(cluster, namespace, preempted_at={1: 10})
    # Other tests have left jobs in other namespaces.
    async with start(RTJ_NAMESPACES=namespace) as operator:
        await operator.until("/readyz", 200)
        playing = asyncio.create_task(node.live())
        await cluster.create(JOBS, namespace, job_manifest("job"))
        age = f'rtj_job_checkpoint_age_seconds{{name="job",namespace="{namespace}"}}'
        await operator.until("/metrics", 200, age)
        status = await asyncio.wait_for(wait_for_end(cluster, namespace, "job"), 60)
        await operator.until("/metrics", 200, 'rtj_jobs{phase="Completed"} 1.0')
        await operator.until("/metrics", 200, "rtj_events_waiting 0.0")
        metrics = await operator.metrics()
        playing.cancel()
    assert metrics['rtj_restarts_total{cause="Preempted"}'] == 1
    assert metrics['rtj_restarts_total{cause="UserError"}'] == 0
    assert 0 <= metrics['rtj_lost_seconds_total{cause="Preempted"}'] < 30
    assert requests(metrics, "create", "pods", "201") == 2
    assert requests(metrics, "update", "resumabletrainingjobs/status", "200") >= 3
    assert metrics['rtj_reconcile_duration_seconds_count{result="ok"}'] >= 3
    assert metrics["rtj_leader"] == 1
    assert metrics["rtj_queue_depth"] == 0
    assert metrics["process_resident_memory_bytes"] > 0
    assert not any(name.startswith("rtj_job_") for name in metrics)
    by_kind = [v for name, v in metrics.items() if name.startswith("rtj_time_seconds_total")]
    assert sum(by_kind) == sum(status["time"].values())


async def test_a_worker_that_is_stuck_makes_the_process_unhealthy(
    start: Callable[..., Operator], cluster: KubeCluster, namespace: str
) -> None:
    # A job that another test left would make it unhealthy at once.
    async with start(STUCK, RTJ_NAMESPACES=namespace) as operator:
        await operator.until("/healthz", 200)
        await cluster.create(JOBS, namespace, job_manifest("job"))
        await operator.until("/healthz", 503, "a worker has been busy with one job")


async def test_a_watch_that_falls_silent_makes_the_process_unhealthy(
    start: Callable[..., Operator], proxy: MoodyProxy
) -> None:
    async with start() as operator:
        await operator.until("/readyz", 200)
        await asyncio.sleep(WATCH_SILENCE_SECONDS + 2)
        assert await operator.get("/healthz") == (200, "ok\n")
        proxy.silent = True
        await operator.until("/healthz", 503, "the watch of leases has not told of a change")


async def test_an_api_server_that_is_away_makes_it_wait_and_not_unhealthy(
    start: Callable[..., Operator], proxy: MoodyProxy, cluster: KubeCluster, namespace: str
) -> None:
    lease = {
        "metadata": {"name": LEASE_NAME},
        "spec": {"holderIdentity": "another", "leaseDurationSeconds": 3600},
    }
    held = await cluster.create(LEASES, namespace, lease)
    proxy.away = True
    async with start() as operator:
        await operator.until("/readyz", 503, "the watches have not begun")
        assert await operator.get("/healthz") == (200, "ok\n")
        proxy.away = False
        await operator.until("/readyz", 200)

        proxy.silent = True  # The watch will owe an event when the API server goes.
        await proxy.looked()
        await cluster.replace(LEASES, namespace, {**held, "spec": {**lease["spec"], **RENEWED}})
        await proxy.looked()
        proxy.away, proxy.silent = True, False
        await operator.until("/readyz", 503, "the API server has not answered")
        for _ in range(WATCH_SILENCE_SECONDS):
            assert await operator.get("/healthz") == (200, "ok\n")
            await asyncio.sleep(1)
        proxy.away = False
        await operator.until("/readyz", 200)
        metrics = await operator.metrics()
    assert metrics["rtj_leader"] == 0
    assert requests(metrics, "get", "leases", "none") >= 1
