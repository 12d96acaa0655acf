"""Fixtures of the unit layer.

``world``  ``tests.model.world.World`` with one job, whose first attempt trains.
"""

from collections.abc import Iterator

import pytest

from tests.model.world import World


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.work()
    world.schedule()
    world.start_containers()
    world.work()
    yield world
    world.close()
