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


class RacingCluster(MemoryCluster):
    """Lets a renewal, which was under way when leading ended, come between a GET and a PUT."""

    renewals = 0

    async def get(self, *what: Any) -> Any:
        lease = await super().get(*what)
        if self.renewals:
            self.renewals -= 1
            place = (LEASES.kind, NAMESPACE, leader.LEASE_NAME)
            self.update(*place, lambda held: held["spec"].update(renewTime="later"))
        return lease


async def test_a_lease_is_let_go_though_a_renewal_comes_between() -> None:
    cluster = RacingCluster()
    one = Leader(cluster, NAMESPACE, "one", Pulse(Silences(time.monotonic)))
    await one.acquire()
    cluster.renewals = 2
    await one.release()
    assert holder_of(cluster) == ""
