"""Fixtures of the unit layer.

``world``  ``tests.model.world.World`` with one job, whose first attempt trains.
``fresh``  The same before it was looked at.
``reads``  What was read of its API server.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from rtj_operator.cluster import Kind

from tests.model.memory_cluster import MemoryCluster
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


@pytest.fixture
def fresh() -> Iterator[World]:
    """A job that has not been looked at yet."""
    world = World()
    yield world
    world.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds that were read, one each time: of one object, or of a list."""
    kinds: list[str] = []
    for name, suffix in (("get", ""), ("list", "List")):
        noted = _noted(getattr(MemoryCluster, name), kinds, suffix)
        monkeypatch.setattr(MemoryCluster, name, noted)
    return kinds


def _noted(read: Any, kinds: list[str], suffix: str) -> Any:
    async def call(self: MemoryCluster, kind: Kind, *rest: Any, **fields: Any) -> Any:
        kinds.append(kind.kind + suffix)
        return await read(self, kind, *rest, **fields)

    return call
