"""The operator's parts against a real API server: real conflicts, real owners, real refusals."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from kubernetes.aio import client
from rtj_api.names import ANNOTATION_HEARTBEAT
from rtj_devcluster.errors import CommandFailedError
from rtj_operator import kube, leader
from rtj_operator.act import announce, perform
from rtj_operator.cluster import (
    ACCOUNTS,
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    LEASES,
    NODES,
    PODS,
    AlreadyExistsError,
    ConflictError,
    Key,
    Manifest,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from rtj_operator.core.decision import AskForStacks
from rtj_operator.core.observed import Settings
from rtj_operator.health import Pulse
from rtj_operator.kube import KubeCluster
from rtj_operator.leader import Leader
from rtj_operator.memory import Memory
from rtj_operator.parse import parse_job, parse_stacks_asked
from rtj_operator.queue import UnfinishedError
from rtj_operator.reconcile import Reconciler

from tests.integration.operator_world import (
    PlayedNode,
    create_inputs,
    job_manifest,
)
from tests.integration.restricted import restrict

pytestmark = pytest.mark.integration


class Operator:
    """One operator process's worth of memory, without its watches."""

    def __init__(
        self, cluster: KubeCluster, namespace: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cluster = cluster
        self.key = Key(namespace, "job")
        self._reconcile = Reconciler(cluster, Memory(clock), Settings(), partial(announce, cluster))

    async def turn(self) -> float | None:
        return await self._reconcile(self.key)

    async def until(self, holds: Callable[[Manifest], Any]) -> Manifest:
        """Take turns until the status satisfies `holds`."""
        async with asyncio.timeout(60):
            while True:
                # A machine under load answers late.
                with contextlib.suppress(UnavailableError, UnfinishedError):
                    await self.turn()
                    job = await self.cluster.get(JOBS, self.key.namespace, self.key.name)
                    if holds(job.get("status", {})):
                        return job["status"]  # type: ignore[no-any-return]
                await asyncio.sleep(0.1)


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(120):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.2)


def plain_pod(name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }


def _running_condition(status: Manifest) -> Manifest:
    return next((c for c in status.get("conditions", []) if c["type"] == "Running"), {})


async def _names(cluster: KubeCluster, kind: Any, namespace: str) -> list[str]:
    return sorted(o["metadata"]["name"] for o in await cluster.list(kind, namespace))


async def test_the_adapter_tells_the_ways_of_failing_apart(
    cluster: KubeCluster, namespace: str
) -> None:
    config_map = {"metadata": {"name": "a"}, "data": {"k": "1"}}
    first = await cluster.create(CONFIG_MAPS, namespace, config_map)
    with pytest.raises(AlreadyExistsError):
        await cluster.create(CONFIG_MAPS, namespace, config_map)
    await cluster.replace(CONFIG_MAPS, namespace, {**first, "data": {"k": "2"}})
    with pytest.raises(ConflictError):
        await cluster.replace(CONFIG_MAPS, namespace, {**first, "data": {"k": "3"}})
    with pytest.raises(ConflictError):
        await cluster.delete(CONFIG_MAPS, namespace, "a", "another-uid")
    await cluster.delete(CONFIG_MAPS, namespace, "a", first["metadata"]["uid"])
    with pytest.raises(NotFoundError):
        await cluster.get(CONFIG_MAPS, namespace, "a")
    with pytest.raises(RejectedError, match="Invalid"):
        await cluster.create(CONFIG_MAPS, namespace, {"metadata": {"name": "A B"}})


async def test_an_api_server_that_does_not_answer_is_unavailable() -> None:
    configuration = client.Configuration()
    configuration.host = "http://127.0.0.1:1"
    async with KubeCluster(client.ApiClient(configuration)) as nowhere:
        with pytest.raises(UnavailableError):
            await nowhere.get(NODES, "", "n")


async def test_long_lists_come_whole_in_pages(
    cluster: KubeCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "PAGE_SIZE", 2)
    for n in range(5):
        labels = {"x": "y"} if n else {}
        manifest = {"metadata": {"name": f"c{n}", "labels": labels}}
        await cluster.create(CONFIG_MAPS, namespace, manifest)
    found = await cluster.list(CONFIG_MAPS, namespace, "x=y")
    assert [o["metadata"]["name"] for o in found] == ["c1", "c2", "c3", "c4"]


async def test_two_operators_at_once_make_one_pod(cluster: KubeCluster, namespace: str) -> None:
    await create_inputs(cluster, namespace)
    await cluster.create(JOBS, namespace, job_manifest("job"))
    both = [Operator(cluster, namespace) for _ in range(2)]
    outcomes = await asyncio.gather(*(o.turn() for o in both), return_exceptions=True)
    assert all(isinstance(o, ConflictError) for o in outcomes if isinstance(o, BaseException))
    await asyncio.gather(*(o.turn() for o in both))
    assert await _names(cluster, PODS, namespace) == ["job-1-0"]
    assert "job-trainer" in await _names(cluster, ACCOUNTS, namespace)
    assert await _names(cluster, LEASES, namespace) == ["job"]
    events = await cluster.list(EVENTS, namespace)
    ours = [e["reason"] for e in events if e["source"].get("component") == "rtj-operator"]
    assert ours == ["AttemptLaunched"]


async def test_a_question_is_written_on_the_jobs_lease_beside_the_heartbeat(
    cluster: KubeCluster, namespace: str
) -> None:
    await create_inputs(cluster, namespace)
    await cluster.create(JOBS, namespace, job_manifest("job"))
    await Operator(cluster, namespace).until(lambda s: s.get("attempt"))
    lease = await cluster.get(LEASES, namespace, "job")
    lease["metadata"]["annotations"] = {ANNOTATION_HEARTBEAT: "{}"}
    await cluster.replace(LEASES, namespace, lease)
    job = parse_job(await cluster.get(JOBS, namespace, "job"))
    for _ in range(2):
        await perform(cluster, job, AskForStacks("000001-Training-5"))
    lease = await cluster.get(LEASES, namespace, "job")
    assert parse_stacks_asked(lease) == "000001-Training-5"
    assert lease["metadata"]["annotations"][ANNOTATION_HEARTBEAT] == "{}"
    await cluster.delete(LEASES, namespace, "job", lease["metadata"]["uid"])
    await perform(cluster, job, AskForStacks("000001-Training-5"))  # Nobody is there to ask.


async def test_everything_goes_with_the_job(
    cluster: KubeCluster, namespace: str, kubectl: Callable[..., str]
) -> None:
    await create_inputs(cluster, namespace)
    await cluster.create(JOBS, namespace, job_manifest("job"))
    operator = Operator(cluster, namespace)
    await operator.until(lambda s: s.get("attempt"))
    kubectl("delete", "rtj", "job", "-n", namespace)

    async def nothing_is_left() -> bool:
        accounts = await _names(cluster, ACCOUNTS, namespace)
        rest = [*await _names(cluster, PODS, namespace), *await _names(cluster, LEASES, namespace)]
        return not rest and "job-trainer" not in accounts

    await eventually(nothing_is_left)
    assert await operator.turn() is None


async def test_a_deleted_job_that_a_finalizer_keeps_is_seen_to_its_end(
    cluster: KubeCluster, namespace: str, kubectl: Callable[..., str]
) -> None:
    await create_inputs(cluster, namespace)
    kept = job_manifest("job", totalSteps=10_000)
    kept["metadata"]["finalizers"] = ["example.com/backup"]
    await cluster.create(JOBS, namespace, kept)
    node = PlayedNode(cluster, namespace, {}, total_steps=10_000)
    living = asyncio.create_task(node.live())
    operator = Operator(cluster, namespace)
    await operator.until(lambda s: s.get("phase") == "Running")
    kubectl("delete", "rtj", "job", "-n", namespace, "--wait=false")
    status = await operator.until(lambda s: _running_condition(s).get("reason") == "JobDeleted")

    async def its_pod_is_gone() -> bool:
        return await _names(cluster, PODS, namespace) == []

    await eventually(its_pod_is_gone)  # Only its node lets it go.
    living.cancel()
    (ended,) = status["attempts"]
    assert (ended["cause"], ended["reason"]) == ("Suspended", "JobDeleted")
    assert status["lastCommit"]["step"] == node.steps[1]
    job = await cluster.get(JOBS, namespace, "job")
    assert status["observedGeneration"] == job["metadata"]["generation"] > 1
    job["metadata"]["finalizers"] = []
    await cluster.replace(JOBS, namespace, job)
    assert await operator.turn() is None
    assert await _names(cluster, JOBS, namespace) == []


async def test_a_taken_pod_name_is_shown_and_mended_by_its_owner(
    cluster: KubeCluster, namespace: str
) -> None:
    await create_inputs(cluster, namespace)
    stranger = await cluster.create(PODS, namespace, plain_pod("job-1-0"))
    await cluster.create(JOBS, namespace, job_manifest("job"))
    operator = Operator(cluster, namespace)
    status = await operator.until(lambda s: _running_condition(s).get("reason") == "PodNameTaken")
    assert "job-1-0" in _running_condition(status)["message"]
    await cluster.delete(PODS, namespace, "job-1-0", stranger["metadata"]["uid"])
    fresh = Operator(cluster, namespace)
    await fresh.until(lambda s: _running_condition(s).get("reason") == "WaitingForPods")
    (pod,) = await cluster.list(PODS, namespace)
    assert pod["metadata"]["ownerReferences"][0]["name"] == "job"


async def test_a_refused_pod_is_shown_with_the_api_servers_words_and_tried_again(
    cluster: KubeCluster, namespace: str, kubectl: Callable[..., str]
) -> None:
    await create_inputs(cluster, namespace)
    kubectl("create", "quota", "none", "--hard=pods=0", "-n", namespace)
    await cluster.create(JOBS, namespace, job_manifest("job"))

    async def quota_is_enforced() -> bool:
        probe = ("create", "--dry-run=server", "-n", namespace, "-f", "-")
        pod = json.dumps(plain_pod("probe"))
        try:
            await asyncio.to_thread(kubectl, *probe, text_input=pod)
        except CommandFailedError as error:
            return "exceeded quota" in str(error)
        return False

    await eventually(quota_is_enforced)  # Admission learns of it by a watch.
    operator = Operator(cluster, namespace, clock=lambda: 0.0)  # A refusal stands for a while.
    status = await operator.until(lambda s: _running_condition(s).get("reason") == "PodRejected")
    assert "exceeded quota" in _running_condition(status)["message"]
    waited = await operator.turn()
    assert waited
    events = [e["reason"] for e in await cluster.list(EVENTS, namespace)]
    assert "PodRejected" in events
    kubectl("delete", "quota", "none", "-n", namespace)
    fresh = Operator(cluster, namespace)
    await fresh.until(lambda s: _running_condition(s).get("reason") == "WaitingForPods")
    assert await _names(cluster, PODS, namespace) == ["job-1-0"]


async def test_the_pod_passes_the_restricted_pod_security_admission(
    cluster: KubeCluster, namespace: str, kubectl: Callable[..., str]
) -> None:
    restrict(kubectl, namespace)
    await create_inputs(cluster, namespace)
    companions = {
        "initContainers": [{"name": "first", "image": "i"}],
        "containers": [{"name": "side", "image": "i"}],
    }
    trainer = {"image": "t", "podTemplate": {"spec": companions}}
    await cluster.create(JOBS, namespace, job_manifest("job", trainer=trainer))
    await Operator(cluster, namespace).turn()
    assert await _names(cluster, PODS, namespace) == ["job-1-0"]


async def test_the_window_of_a_budget_survives_the_api_server_and_a_new_operator(
    cluster: KubeCluster, namespace: str
) -> None:
    await create_inputs(cluster, namespace)
    policy = {"windowSeconds": 600, "maxDisruptionRestarts": 2}
    await cluster.create(JOBS, namespace, job_manifest("job", failurePolicy=policy))
    node = PlayedNode(cluster, namespace, preempted_at={1: 3, 2: 5, 3: 7})
    playing = asyncio.create_task(node.live())
    first = Operator(cluster, namespace)
    status = await first.until(lambda s: s.get("restarts", {}).get("preempted") == 1)
    assert len(status["restarts"]["disruptionTimes"]) == 1
    status = await Operator(cluster, namespace).until(lambda s: s["phase"] == "Failed")
    playing.cancel()
    assert len(status["restarts"]["disruptionTimes"]) == 2
    failed = next(c for c in status["conditions"] if c["type"] == "Failed")
    assert failed["reason"] == "DisruptionLimitExceeded"


async def test_a_rule_ends_a_job_with_its_name_in_condition_and_event(
    cluster: KubeCluster, namespace: str
) -> None:
    await create_inputs(cluster, namespace)
    rule = {
        "name": "once-is-enough",
        "action": "Fail",
        "onTerminationMessage": {"pattern": "^TrainerPreempted: "},
    }
    policy = {"rules": [rule]}
    await cluster.create(JOBS, namespace, job_manifest("job", failurePolicy=policy))
    node = PlayedNode(cluster, namespace, preempted_at={1: 3})
    playing = asyncio.create_task(node.live())
    status = await Operator(cluster, namespace).until(lambda s: s.get("phase") == "Failed")
    playing.cancel()
    failed = next(c for c in status["conditions"] if c["type"] == "Failed")
    assert failed["reason"] == "FailedByRule"
    assert "spec.failurePolicy.rules[0] (once-is-enough)" in failed["message"]
    events = await cluster.list(EVENTS, namespace)
    assert any(e["reason"] == "FailedByRule" and "once-is" in e["message"] for e in events)


async def test_only_one_leads_and_the_next_takes_over_at_once_when_it_lets_go(
    cluster: KubeCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks_every = 0.1
    monkeypatch.setattr(leader, "RENEW_SECONDS", looks_every)
    # So long is it tried to let go; a machine under load needs it.
    monkeypatch.setattr(leader, "REQUEST_SECONDS", 60.0)
    pulse = Pulse(Memory().silences)
    one, two = (Leader(cluster, namespace, name, pulse) for name in ("one", "two"))
    await asyncio.wait_for(one.acquire(), 60)
    waiting = asyncio.create_task(two.acquire())
    holding = asyncio.create_task(one.hold())
    await asyncio.sleep(10 * looks_every)
    assert not waiting.done()
    await one.hand_over(holding)
    await asyncio.wait_for(waiting, 60)
    lease = await cluster.get(LEASES, namespace, leader.LEASE_NAME)
    assert lease["spec"]["holderIdentity"] == "two"
    assert lease["spec"]["leaseTransitions"] == 2


async def test_a_leader_that_died_is_succeeded_when_its_lease_runs_out(
    cluster: KubeCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(leader, "DURATION_SECONDS", 2)
    pulse = Pulse(Memory().silences)
    await Leader(cluster, namespace, "dead", pulse).acquire()
    loop = asyncio.get_running_loop()
    start = loop.time()
    await asyncio.wait_for(Leader(cluster, namespace, "heir", pulse).acquire(), 60)
    assert loop.time() - start >= 2
