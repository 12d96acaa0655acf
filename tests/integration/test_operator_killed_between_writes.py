"""The operator is SIGKILLed between each two of its writes; no pod is doubled, no job is lost."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from rtj_operator.cluster import JOBS, PODS

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

pytestmark = pytest.mark.integration


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    "every", [1, 2, 3], ids=["each write", "each second write", "each third write"]
)
async def test_a_job_lives_through_an_operator_that_is_killed_all_the_time(
    every: int,
    kube_apiserver: Path,
    kubectl: Callable[..., str],
    namespace: str,
    tmp_path: Path,
) -> None:
    install_crd(kube_apiserver)
    kubeconfig = tmp_path / "kubeconfig"
    operator = Operator(
        {
            "KUBECONFIG": str(kubeconfig),
            "RTJ_OPERATOR_NAMESPACE": namespace,
            # Its writes about jobs that other tests left behind would use up its lives.
            "RTJ_NAMESPACES": namespace,
            "RTJ_IDENTITY": "the-same-after-each-kill",
            "RTJ_HEALTH_PORT": str(_free_port()),
        },
        tmp_path / "operator.log",
    )
    upstream = await load_configuration(kube_apiserver)
    async with (
        await connect(kube_apiserver) as cluster,
        KillingProxy(upstream, operator.kill, every) as proxy,
    ):
        proxy.write_kubeconfig(kubeconfig)
        await create_inputs(cluster, namespace)
        await cluster.create(JOBS, namespace, job_manifest("job"))
        node = PlayedNode(cluster, namespace, preempted_at={1: 8, 2: 17})
        background = [
            asyncio.create_task(operator.keep_alive()),
            asyncio.create_task(node.live()),
        ]
        try:
            end = asyncio.create_task(wait_for_end(cluster, namespace, "job"))
            done, _ = await asyncio.wait(
                {end, *background}, timeout=400, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()  # What ended the node or the operator's keeper, if that did end.
            assert end in done, (tmp_path / "operator.log").read_text()[-5000:]
        finally:
            for task in background:
                task.cancel()
            operator.kill()
        status = end.result()
        pods = await cluster.list(PODS, namespace)

    assert status["phase"] == "Completed"
    assert [(a["number"], a["cause"]) for a in status["attempts"]] == [
        (1, "Preempted"),
        (2, "Preempted"),
        (3, "Completed"),
    ]
    assert status["restarts"]["total"] == status["restarts"]["preempted"] == 2
    assert sorted(pod["metadata"]["name"] for pod in pods) == ["job-1-0", "job-2-0", "job-3-0"]
    assert len(node.containers) == len(set(node.containers)) == 3
    assert node.steps == {1: 8, 2: 17, 3: 30}
    assert proxy.kills >= 10 // every
    assert operator.starts > proxy.kills - 1
