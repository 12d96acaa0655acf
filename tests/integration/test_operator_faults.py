"""The operator's process, its API server real, and everything in between out of order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from rtj_operator.cluster import JOBS

from tests.integration.crd_install import install_crd
from tests.integration.operator_faults import (
    Away,
    Conflicts,
    Dropped,
    FaultyProxy,
    Forgetful,
    Gone,
    Record,
    ServerErrors,
    Silent,
    TooManyRequests,
)
from tests.integration.operator_killer import Operator
from tests.integration.operator_trial import Trial, environment_of
from tests.integration.operator_world import (
    PlayedNode,
    connect,
    create_inputs,
    job_manifest,
    load_configuration,
)

pytestmark = pytest.mark.integration

SILENCE_SECONDS = 10.0
AWAY_SECONDS = 15.0
"""Longer than the silence that proves a node dead."""
LONG = 60
"""Steps of a job that trains on long after all this."""


async def ten_seconds_of_silence(trial: Trial) -> None:
    await trial.middle()
    (proxy,) = trial.proxies
    assert isinstance(proxy, Silent)
    await proxy.fall_silent(SILENCE_SECONDS)


async def the_api_server_goes_away(trial: Trial) -> None:
    await trial.middle()
    (proxy,) = trial.proxies
    assert isinstance(proxy, Away)
    proxy.away = True
    await asyncio.sleep(AWAY_SECONDS)
    proxy.away = False


async def the_leader_dies(trial: Trial) -> None:
    await trial.middle()
    leader = await trial.leader()
    trial.proxies[leader].faults += 1
    trial.kill(leader)


async def the_leader_is_cut_off(trial: Trial) -> None:
    """What it sent takes effect when another leads already."""
    await trial.middle()
    proxy = trial.proxies[await trial.leader()]
    assert isinstance(proxy, Silent)
    await proxy.fall_silent(SILENCE_SECONDS + 4)


@pytest.fixture
async def make(kube_apiserver: Path, tmp_path: Path) -> AsyncIterator[Callable[..., Trial]]:
    """Make a trial on the API server, which has the CRD."""
    install_crd(kube_apiserver)
    upstream = await load_configuration(kube_apiserver)
    async with await connect(kube_apiserver) as cluster:

        def trial(name: str, fault: type[FaultyProxy], **how: Any) -> Trial:
            return Trial(cluster, upstream, tmp_path / name, fault, **how)

        yield trial


async def all_end_as_if_nothing_had_happened(trials: dict[str, Trial]) -> None:
    """Run the trials side by side: most of the time each of them waits."""
    outcomes = await asyncio.gather(*(trial.run() for trial in trials.values()))
    wrong = [
        f"{name}: {what}" for name, found in zip(trials, outcomes, strict=True) for what in found
    ]
    assert not wrong, "\n".join(wrong)


async def test_answers_that_fail_cost_no_attempt_and_double_no_pod(
    make: Callable[..., Trial],
) -> None:
    faults = (Conflicts, TooManyRequests, ServerErrors, Gone, Dropped)
    trials = {fault.__name__: make(fault.__name__, fault) for fault in faults}
    await all_end_as_if_nothing_had_happened(trials)


async def test_a_pod_that_goes_while_nobody_watches_is_missed_all_the_same(
    kube_apiserver: Path, kubectl: Callable[..., str], namespace: str, tmp_path: Path
) -> None:
    install_crd(kube_apiserver)
    upstream, kubeconfig = await load_configuration(kube_apiserver), tmp_path / "kubeconfig"
    async with (
        await connect(kube_apiserver) as cluster,
        Forgetful(upstream, Record()) as proxy,
        asyncio.timeout(400),
    ):
        proxy.write_kubeconfig(kubeconfig)
        operator = Operator(environment_of(0, kubeconfig, namespace), tmp_path / "log")
        node = PlayedNode(cluster, namespace, {}, job="job", total_steps=10_000)
        await create_inputs(cluster, namespace)
        await cluster.create(JOBS, namespace, job_manifest("job", totalSteps=10_000))
        tasks = [asyncio.create_task(each) for each in (operator.keep_alive(), node.live())]
        while node.steps.get(1, 0) < 2:  # noqa: ASYNC110 - it is another process that acts
            await asyncio.sleep(0.05)
        proxy.forgets = True
        kubectl("delete", "pod", "job-1-0", "-n", namespace, "--force", "--grace-period=0")
        while node.steps.get(2, 0) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        operator.kill()
    assert proxy.faults


async def test_outages_cost_no_attempt_and_double_no_pod(make: Callable[..., Trial]) -> None:
    disturbances: dict[str, dict[str, Any]] = {
        "silence": {"fault": Silent, "disturb": ten_seconds_of_silence},
        "away": {"fault": Away, "disturb": the_api_server_goes_away, "shared_fate": True},
        "dead": {"fault": FaultyProxy, "disturb": the_leader_dies, "operators": 2},
        "cut off": {"fault": Silent, "disturb": the_leader_is_cut_off, "operators": 2},
    }
    trials = {name: make(name, steady_steps=LONG, **how) for name, how in disturbances.items()}
    await all_end_as_if_nothing_had_happened(trials)
