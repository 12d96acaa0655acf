"""A dead node is answered within 15 s of its death, and no live one is taken for dead.

Trainer and kubelet speak as seldom as they really do, and so does the operator's leader where the
API server takes a second for its answer.
"""

from collections.abc import Iterator

import pytest
from rtj_api.names import LABEL_ATTEMPT

from tests.model.world import World

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
