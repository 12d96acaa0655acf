"""The operator as a process: how it begins, and how it ends."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from rtj_operator.cluster import LEASES, ConflictError
from rtj_operator.leader import LEASE_NAME

from tests.integration.crd_install import install_crd
from tests.integration.operator_world import connect
from tests.integration.ports import free_port

pytestmark = pytest.mark.integration

PATIENT = """
import runpy
from rtj_operator import leader
leader.REQUEST_SECONDS = 50.0
runpy.run_module("rtj_operator", run_name="__main__", alter_sys=True)
"""
"""So long it tries to let go of its Lease, whatever else the machine has to do."""


@pytest.fixture
async def operator(
    kube_apiserver: Path, kubectl: Callable[..., str], namespace: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m rtj_operator` that leads, and is patient at the end."""
    install_crd(kube_apiserver)
    environment = {
        **os.environ,
        "KUBECONFIG": str(kube_apiserver),
        "RTJ_OPERATOR_NAMESPACE": namespace,
        "RTJ_HEALTH_PORT": str(free_port()),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PATIENT),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    async with asyncio.timeout(60):
        while json.loads(await process.stderr.readline())["message"] != "leading":
            pass
    yield process
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_a_signal_ends_it_at_once_and_frees_the_lease(
    operator: asyncio.subprocess.Process, kube_apiserver: Path, namespace: str
) -> None:
    async with await connect(kube_apiserver) as cluster:
        held = await cluster.get(LEASES, namespace, LEASE_NAME)
        assert held["spec"]["holderIdentity"]
        operator.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await operator.wait() == 0
        freed = await cluster.get(LEASES, namespace, LEASE_NAME)
        assert freed["spec"]["holderIdentity"] == ""


async def test_it_ends_when_another_takes_its_lease(
    operator: asyncio.subprocess.Process, kube_apiserver: Path, namespace: str
) -> None:
    async with await connect(kube_apiserver) as cluster, asyncio.timeout(60):
        while operator.returncode is None:
            lease = await cluster.get(LEASES, namespace, LEASE_NAME)
            lease["spec"]["holderIdentity"] = "another"
            try:
                await cluster.replace(LEASES, namespace, lease)
            except ConflictError:
                continue  # The operator renewed in between.
            await asyncio.sleep(0.5)
    assert operator.returncode == 1


async def test_it_says_so_when_the_crd_is_missing(kube_apiserver: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WITHOUT_CRD),
        env={**os.environ, "KUBECONFIG": str(kube_apiserver), "RTJ_HEALTH_PORT": str(free_port())},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert b"install the CRD" in said


_WITHOUT_CRD = """
import rtj_api.names
rtj_api.names.PLURAL = "resumabletrainingjobsofanotherworld"
from rtj_operator.__main__ import main
main()
"""
