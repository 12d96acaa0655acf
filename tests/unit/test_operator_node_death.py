"""A dead node is answered within 15 s of its death, and no live one is taken for dead.

Trainer and kubelet speak as seldom as they really do, and so does the operator's leader where the
API server takes a second for its answer.
"""

from collections.abc import Iterator

import pytest
from rtj_api.names import LABEL_ATTEMPT
from rtj_operator.cluster import LEASES, NODE_LEASES, NODES

from tests.model.world import NODE_NAMES, World

pytestmark = pytest.mark.unit

REPLACED_WITHIN_SECONDS = 15
"""Of the death, not of the last sign of life."""
RENEW_SECONDS = 10
"""Of a kubelet."""


@pytest.fixture
def world() -> Iterator[World]:
    """A job whose pod has its node, where an image is still pulled."""
    world = World()
    world.beat_seconds, world.node_seconds, world.leader_seconds = 5, RENEW_SECONDS, 3
    world.work()
    world.schedule()
    world.work()
    yield world
    world.close()


def attempts(world: World) -> list[str]:
    """Return the numbers of those that have a pod."""
    return [pod["metadata"]["labels"][LABEL_ATTEMPT] for pod in world.pods()]


@pytest.mark.parametrize("second", range(RENEW_SECONDS))
@pytest.mark.parametrize("heard", [True, False])
def test_a_dead_node_is_answered_in_time_whenever_it_dies(
    world: World, second: int, heard: bool
) -> None:
    """A second is counted from a renewal of the node's Lease."""
    if heard:
        world.start_containers()
    for _ in range(4 * RENEW_SECONDS + second):
        world.advance(1)
        assert attempts(world) == ["1"]
    world.kill_node(world.pods()[0]["spec"]["nodeName"])
    world.advance(REPLACED_WITHIN_SECONDS)
    assert attempts(world) == ["1", "2"]
    assert [ended.reason for ended in world.status().attempts] == ["NodeLost"]


def test_a_pod_that_starts_slowly_is_not_taken_from_a_node_that_speaks_late(world: World) -> None:
    """Unpacking a large image keeps the disk, and with it the kubelet, busy."""
    world.node_seconds = 13
    for _ in range(600):
        world.advance(1)
        assert attempts(world) == ["1"]


@pytest.fixture
def without_leases(world: World) -> World:
    """Nodes whose kubelets renew no Lease, as some virtual ones, and an operator new to them."""
    world.node_seconds = 1_000_000
    for node in NODE_NAMES:
        world.api.remove(LEASES.kind, NODE_LEASES, node)
    world.start_operator()
    return world


def ready(world: World, status: str) -> None:
    """Let the control plane say whether the pod's node is ready."""
    place = (NODES.kind, "", world.pods()[0]["spec"]["nodeName"])
    said = {"conditions": [{"type": "Ready", "status": status}]}
    world.api.update(*place, lambda node: node.update(status=said))


@pytest.mark.parametrize("heard", [True, False])
def test_a_node_without_a_lease_is_not_dead_for_that(without_leases: World, heard: bool) -> None:
    world = without_leases
    if heard:
        world.start_containers()
        for trainer in world.trainers.values():
            trainer.stuck = True
    for status in ("True", "False"):
        ready(world, status)
        for _ in range(25):
            world.advance(1)
            assert attempts(world) == ["1"]


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("heard", [True, False])
def test_a_node_without_a_lease_is_dead_once_the_control_plane_says_so(
    without_leases: World, heard: bool, gone: bool
) -> None:
    world = without_leases
    if heard:
        world.start_containers()
    world.advance(10)
    node = world.pods()[0]["spec"]["nodeName"]
    world.kill_node(node)
    world.advance(25)
    assert attempts(world) == ["1"]
    if gone:
        world.api.remove(NODES.kind, "", node)
    else:
        ready(world, "Unknown")
    world.advance(REPLACED_WITHIN_SECONDS)
    assert attempts(world) == ["1", "2"]
    assert [ended.reason for ended in world.status().attempts] == ["NodeLost"]
