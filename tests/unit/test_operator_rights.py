"""The trainer's right to its Lease: given only where the Lease is the job's, and given whole."""

import pytest
from rtj_api.names import Condition, Reason
from rtj_operator.cluster import LEASES
from rtj_operator.core.conditions import find

from tests.model.world import JOB, NAMESPACE, World

pytestmark = pytest.mark.unit

LEASE = (LEASES.kind, NAMESPACE, JOB)
RIGHTS = [(kind, NAMESPACE, f"{JOB}-trainer") for kind in ("ServiceAccount", "Role", "RoleBinding")]
BINDING = RIGHTS[-1]
NEEDED = {LEASE, *RIGHTS}
MOST_CALLS = 40
"""More than the operator needs to make a pod; it is killed before and after each of them."""


def put_a_strangers_lease(world: World) -> None:
    world.api.put(LEASES.kind, NAMESPACE, {"metadata": {"name": JOB}, "spec": {}})


def reason(world: World) -> Reason:
    running = find(world.status().conditions, Condition.RUNNING)
    assert running
    return running.reason


def test_a_job_named_like_anothers_lease_is_given_no_right_to_it(fresh: World) -> None:
    put_a_strangers_lease(fresh)
    fresh.work()
    fresh.advance(60)
    assert reason(fresh) is Reason.POD_NAME_TAKEN
    assert [place for place in RIGHTS if place in fresh.api.objects] == []
    assert fresh.pods() == []


def test_it_goes_on_by_itself_when_that_lease_is_gone(fresh: World) -> None:
    put_a_strangers_lease(fresh)
    fresh.work()
    fresh.api.remove(*LEASE)
    fresh.advance(60)
    assert reason(fresh) is Reason.WAITING_FOR_PODS
    assert fresh.api.objects.keys() >= NEEDED


@pytest.mark.parametrize("calls", range(1, MOST_CALLS))
def test_no_right_is_given_on_a_lease_that_appears_while_the_job_is_looked_at(
    fresh: World, calls: int
) -> None:
    def take() -> None:
        if LEASE not in fresh.api.objects:
            put_a_strangers_lease(fresh)

    fresh.api.meanwhile = (calls, take)
    fresh.work()
    ours = "ownerReferences" in fresh.api.objects[LEASE]["metadata"]
    assert (BINDING in fresh.api.objects) == ours


@pytest.mark.parametrize("kill_in", range(1, MOST_CALLS))
def test_an_operator_killed_anywhere_leaves_no_pod_without_its_rights(
    fresh: World, kill_in: int
) -> None:
    fresh.api.kill_in = kill_in
    fresh.work()
    assert len(fresh.pods()) == 1
    assert fresh.api.objects.keys() >= NEEDED


@pytest.mark.parametrize("kill_in", range(1, MOST_CALLS))
def test_so_it_is_when_it_makes_again_what_a_running_pod_lost(world: World, kill_in: int) -> None:
    for place in NEEDED:
        world.api.remove(*place)
    world.api.kill_in = kill_in
    world.look_early()
    world.work()
    assert world.api.objects.keys() >= NEEDED


def test_a_running_pod_is_given_no_right_again_where_a_stranger_has_the_lease(
    world: World,
) -> None:
    world.api.remove(*BINDING)
    world.api.remove(*LEASE)
    put_a_strangers_lease(world)
    world.look_early()
    assert BINDING not in world.api.objects
