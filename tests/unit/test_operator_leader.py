"""Leading holds on while the API server is slow, and ends where another process leads."""

import asyncio
import time
from typing import Any

import pytest
from rtj_operator import leader
from rtj_operator.cluster import LEASES
from rtj_operator.health import Pulse
from rtj_operator.leader import Leader, LeadershipLostError
from rtj_operator.silence import Silences

from tests.model.memory_cluster import MemoryCluster
from tests.unit.leaping_time import leaping

pytestmark = pytest.mark.unit

NAMESPACE = "rtj-system"


class SlowCluster(MemoryCluster):
    """Answers each request after a while."""

    pause = 0.0

    async def get(self, *what: Any) -> Any:
        await asyncio.sleep(self.pause)
        return await super().get(*what)

    async def replace(self, *what: Any) -> Any:
        await asyncio.sleep(self.pause)
        return await super().replace(*what)


def working(seconds_to_end: float, ended: asyncio.Event) -> asyncio.Task[None]:
    """Begin a leader's work that takes a while to end."""

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(seconds_to_end)
            ended.set()

    return asyncio.create_task(work())


@pytest.fixture
def cluster() -> SlowCluster:
    return SlowCluster()


def leader_of(cluster: SlowCluster, name: str) -> Leader:
    return Leader(cluster, NAMESPACE, name, Pulse(Silences(time.monotonic)))


def holder_of(cluster: SlowCluster) -> Any:
    return cluster.read(LEASES.kind, NAMESPACE, leader.LEASE_NAME)["spec"]["holderIdentity"]


@leaping
async def test_a_leader_stays_where_the_api_server_takes_two_seconds_to_answer(
    cluster: SlowCluster,
) -> None:
    one = leader_of(cluster, "one")
    await one.acquire()
    cluster.pause = 2
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.hold(), 20)
    assert holder_of(cluster) == "one"


@leaping
async def test_a_leader_whose_lease_was_changed_by_another_hand_goes_on(
    cluster: SlowCluster,
) -> None:
    one = leader_of(cluster, "one")
    await one.acquire()
    place = (LEASES.kind, NAMESPACE, leader.LEASE_NAME)
    cluster.update(*place, lambda lease: lease["metadata"].update(labels={"by": "hand"}))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.hold(), 20)
    cluster.remove(*place)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.hold(), 20)
    assert holder_of(cluster) == "one"


@leaping
async def test_a_leader_ends_where_another_leads_and_leaves_the_lease_alone(
    cluster: SlowCluster,
) -> None:
    one = leader_of(cluster, "one")
    await one.acquire()
    place = (LEASES.kind, NAMESPACE, leader.LEASE_NAME)
    cluster.update(*place, lambda lease: lease["spec"].update(holderIdentity="two"))
    with pytest.raises(LeadershipLostError):
        await asyncio.wait_for(one.hold(), 20)
    assert holder_of(cluster) == "two"


@leaping
async def test_two_releases_in_one_namespace_lead_both(cluster: SlowCluster) -> None:
    pulse = Pulse(Silences(time.monotonic))
    for release in ("a", "b"):
        one = Leader(cluster, NAMESPACE, f"pod-of-{release}", pulse, f"{release}-rtj-operator")
        await asyncio.wait_for(one.acquire(), 20)
        lease = cluster.read(LEASES.kind, NAMESPACE, f"{release}-rtj-operator")
        assert lease["spec"]["holderIdentity"] == f"pod-of-{release}"


@leaping
async def test_a_renewal_carried_out_after_all_does_not_keep_the_lease(
    cluster: SlowCluster,
) -> None:
    one = leader_of(cluster, "one")
    await one.acquire()
    cluster.conflict_next = True
    await one.release()
    assert holder_of(cluster) == ""


@leaping
async def test_another_leads_only_when_the_work_has_ended(cluster: SlowCluster) -> None:
    one, two = leader_of(cluster, "one"), leader_of(cluster, "two")
    await one.acquire()
    waiting, ended = asyncio.create_task(two.acquire()), asyncio.Event()
    leading = working(1.0, ended)
    await asyncio.sleep(0)
    await one.hand_over(leading)
    assert ended.is_set()
    await asyncio.wait_for(waiting, leader.RENEW_SECONDS)
    assert holder_of(cluster) == "two"


@leaping
async def test_work_that_does_not_end_does_not_keep_the_lease(cluster: SlowCluster) -> None:
    one, ended = leader_of(cluster, "one"), asyncio.Event()
    await one.acquire()
    leading = working(60.0, ended)
    await asyncio.sleep(0)
    await asyncio.wait_for(one.hand_over(leading), 2 * leader.REQUEST_SECONDS)
    assert not ended.is_set()
    assert holder_of(cluster) == ""
