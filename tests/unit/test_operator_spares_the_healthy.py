"""A healthy job on a healthy node is never taken for one on a dead node.

Trainer and kubelet speak as seldom as they really do, so not much may be missed. That the same
mishaps hang nobody is shown in test_operator_hang.py, and with real processes on a real API server
in tests/integration/test_operator_faults.py.
"""

import copy
from collections.abc import Iterator

import pytest
from rtj_operator.cluster import LEASES, NODE_LEASES, NODES, PODS, Kind, Manifest
from rtj_operator.core.observed import Settings

from tests.model.world import NODE_NAMES, World

pytestmark = pytest.mark.unit

SILENCE = Settings.node_silence


@pytest.fixture
def world() -> Iterator[World]:
    """A job that trains; whatever the test does, it must be the same attempt in the end."""
    world = World()
    world.beat_seconds, world.node_seconds = 5, 10
    world.work()
    world.schedule()
    world.start_containers()
    world.work()
    live(world, 20)
    yield world
    status = world.status()
    assert (status.attempt and status.attempt.number, status.attempts) == (1, [])
    assert not [verb for verb, kind, _ in world.api.writes if (verb, kind) == ("delete", PODS.kind)]
    world.close()


def live(world: World, seconds: float) -> None:
    """Let time pass while the trainer takes a step now and then, of which its next beat tells."""
    for _ in range(int(seconds)):
        take_a_step_now_and_then(world)
        world.advance(1)


def take_a_step_now_and_then(world: World) -> None:
    for trainer in world.trainers.values():
        trainer.step += not int(world.time) % 30


def test_stale_reads_kill_no_healthy_job(world: World) -> None:
    """Of two reads of a Lease one is a minute old; now and then all are, for a while."""
    get, history, reads = world.api.get, dict[str, list[tuple[float, Manifest]]](), [0]

    async def lagging(kind: Kind, namespace: str, name: str) -> Manifest:
        found = await get(kind, namespace, name)
        if kind is not LEASES:
            return found
        seen = history.setdefault(name, [])
        seen.append((world.time, copy.deepcopy(found)))
        reads[0] += 1
        old = [lease for time, lease in seen if time <= world.time - 60]
        return old[-1] if old and (reads[0] % 2 or world.time % 100 < SILENCE - 4) else found

    world.api.get = lagging  # type: ignore[method-assign]
    live(world, 600)


def test_a_restart_of_the_operator_kills_no_healthy_job(world: World) -> None:
    for moment in range(30):
        live(world, 7 + moment % 8)
        world.start_operator()


def test_an_operator_that_was_stopped_for_an_hour_kills_no_healthy_job(world: World) -> None:
    """SIGSTOP, a frozen node, a laptop's lid: its clock went on, and it heard nothing."""
    for _ in range(3):
        world.time += 3600
        world.turn()
        live(world, SILENCE)


@pytest.mark.parametrize("skew", [-86_400.0, -30.0, 30.0, 86_400.0])
def test_clock_skew_between_nodes_kills_no_healthy_job(world: World, skew: float) -> None:
    for second in range(120):
        world.clock_skew[NODE_NAMES[second % 2]] = skew * (second % 5)
        live(world, 1)


@pytest.mark.parametrize("seconds", [3, 7, 13, 600])
def test_an_api_server_that_was_away_kills_no_healthy_job(world: World, seconds: int) -> None:
    for beginning in range(10):
        live(world, 10 + beginning)
        reachable = set(world.live_nodes)
        world.live_nodes.clear()  # No trainer and no kubelet gets through either.
        world.api.fail_next = 10_000
        for _ in range(seconds):
            take_a_step_now_and_then(world)
            world.time += 1
            world.work()
        world.api.fail_next = 0
        world.live_nodes |= reachable
        world.turn()
        live(world, 10)


def test_a_node_whose_lease_was_deleted_kills_no_job_whose_trainer_speaks(world: World) -> None:
    world.node_seconds = 1_000_000
    world.api.remove(LEASES.kind, NODE_LEASES, world.pods()[0]["spec"]["nodeName"])
    live(world, 60)


def test_a_node_object_that_is_gone_kills_no_job_whose_trainer_speaks(world: World) -> None:
    world.api.remove(NODES.kind, "", world.pods()[0]["spec"]["nodeName"])
    live(world, 60)
