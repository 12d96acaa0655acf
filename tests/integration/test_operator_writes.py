"""How little the operator's process writes, counted where its requests pass."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from kubernetes.aio import client
from rtj_operator.cluster import JOBS
from rtj_operator.core.observed import Settings

from tests.integration.api_proxy import ApiProxy
from tests.integration.crd_install import install_crd
from tests.integration.operator_killer import Operator
from tests.integration.operator_world import (
    PlayedNode,
    connect,
    create_inputs,
    job_manifest,
    load_configuration,
)
from tests.integration.ports import free_port

pytestmark = pytest.mark.integration

INTERVAL = Settings.mirror_interval
SLACK = 0.5
WRITES_BEFORE_PREEMPTION = 3
"""Of progress: two intervals."""
ENDLESS = 100_000
MOST_WRITES_PER_PREEMPTION = 5


@dataclass(frozen=True)
class Write:
    """One request that changed something."""

    at: float
    what: str
    phase: str = ""
    """Of the job, in a write of its status that succeeded."""
    attempt: int | None = None
    reason: str = ""
    """Of an Event."""


class CountingProxy(ApiProxy):
    """Notes every write about a job; leader election is about none."""

    def __init__(self, upstream: client.Configuration) -> None:
        super().__init__(upstream)
        self.writes: list[Write] = []

    async def answered(self, request: web.Request, status: int) -> web.Response | None:
        """Note it, whether it succeeded or not."""
        if request.method == "GET" or request.path.endswith("/leases/rtj-operator"):
            return None
        words = {}
        if request.path.endswith("/status") and status < 300:
            told = (await request.json())["status"]
            words = {"phase": told["phase"], "attempt": (told.get("attempt") or {}).get("number")}
        if request.path.endswith("/events"):
            words = {"reason": (await request.json())["reason"]}
        what = f"{request.method} {request.path} {status}"
        self.writes.append(Write(time.monotonic(), what, **words))
        return None

    async def until(self, holds: Callable[[Write], bool], after: int = -1, times: int = 1) -> int:
        """Wait for so many writes after that with this index; return the index of the last."""
        while True:
            found = [n for n, write in enumerate(self.writes) if n > after and holds(write)]
            if len(found) >= times:
                return found[times - 1]
            await asyncio.sleep(0.1)


async def test_progress_costs_a_write_in_ten_seconds_and_a_preemption_five(
    kube_apiserver: Path, namespace: str, tmp_path: Path
) -> None:
    """The trainer beats ten times a second, and each beat tells of a step and a commit.

    In the first attempt each also warns of another commit that was skipped.
    """
    install_crd(kube_apiserver)
    environment = {
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "RTJ_NAMESPACES": namespace,
        "RTJ_OPERATOR_NAMESPACE": namespace,
        "RTJ_HEALTH_PORT": str(free_port()),
    }
    operator = Operator(environment, tmp_path / "operator.log")
    async with (
        await connect(kube_apiserver) as cluster,
        CountingProxy(await load_configuration(kube_apiserver)) as proxy,
    ):
        proxy.write_kubeconfig(tmp_path / "kubeconfig")
        await create_inputs(cluster, namespace)
        await cluster.create(JOBS, namespace, job_manifest("job", totalSteps=ENDLESS))
        preempted_at: dict[int, int] = {}
        node = PlayedNode(
            cluster, namespace, preempted_at, total_steps=ENDLESS, commits=True, warns_in=1
        )
        background = [
            asyncio.create_task(operator.keep_alive()),
            asyncio.create_task(node.live()),
        ]
        try:
            async with asyncio.timeout(180):
                trains = await proxy.until(lambda w: w.phase == "Running")
                await proxy.until(lambda w: w.phase == "Running", times=WRITES_BEFORE_PREEMPTION)
                preempted_at[1] = node.steps[1] + 1
                ended = await proxy.until(lambda w: w.phase == "Restarting")
                again = await proxy.until(lambda w: (w.phase, w.attempt) == ("Running", 2))
                told = await proxy.until(lambda w: "/events " in w.what, after=again)
        finally:
            for task in background:
                task.cancel()
            operator.kill()

    progress = [w for w in proxy.writes[trains:ended] if w.phase]
    pauses = [after.at - before.at for before, after in itertools.pairwise(progress)]
    assert len(progress) >= WRITES_BEFORE_PREEMPTION, proxy.writes[trains:ended]
    assert min(pauses) >= INTERVAL - SLACK, pauses
    others = [w for w in proxy.writes[trains:ended] if "/status " not in w.what]
    # The Event of the launch waits until no job does, and may come only now.
    reasons = sorted(w.reason or w.what for w in others if w.reason != "AttemptLaunched")
    assert reasons == ["CommitSkipped", "Training"]

    preemption = [w.what for w in proxy.writes[ended : told + 1]]
    assert len(preemption) <= MOST_WRITES_PER_PREEMPTION, preemption
    assert len([w for w in preemption if w.startswith("POST") and "/pods " in w]) == 1
