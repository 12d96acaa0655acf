"""A look that asks several things at once waits for them all, and as long as each wants."""

import asyncio
from typing import Any

import pytest
from rtj_operator.cluster import (
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    PODS,
    Cluster,
    Kind,
    Manifest,
    UnavailableError,
)
from rtj_operator.core.observed import Settings
from rtj_operator.memory import Memory
from rtj_operator.observe import observe
from rtj_operator.parse import parse_job
from rtj_operator.prelaunch import find_needs
from rtj_operator.together import together

from tests.model.memory_cluster import MemoryCluster
from tests.model.world import JOB, KEY, NAMESPACE, World
from tests.unit.leaping_time import leaping

pytestmark = pytest.mark.unit

Refusals = dict[Kind, tuple[float, float]]
"""After how many seconds the read of such an object is refused, and how many it is to wait then."""


class BusyCluster:
    """Refuses some reads, and takes its time for it."""

    def __init__(self, cluster: MemoryCluster, refusals: Refusals) -> None:
        self._cluster = cluster
        self._refusals = refusals

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        await self._may_refuse(kind)
        return await self._cluster.get(kind, namespace, name)

    async def list(self, kind: Kind, namespace: str, labels: str) -> list[Manifest]:
        await self._may_refuse(kind)
        return await self._cluster.list(kind, namespace, labels)

    async def _may_refuse(self, kind: Kind) -> None:
        if kind in self._refusals:
            seconds, retry_after = self._refusals[kind]
            await asyncio.sleep(seconds)
            raise UnavailableError("too many requests", retry_after, answered=True)


async def look(cluster: Cluster) -> None:
    await observe(cluster, KEY, Memory(), Settings())


async def look_before_launch(cluster: Cluster) -> None:
    await find_needs(cluster, parse_job(await cluster.get(JOBS, NAMESPACE, JOB)), Memory())


@leaping
@pytest.mark.parametrize(
    ("look", "first", "second"), [(look, JOBS, PODS), (look_before_launch, CLAIMS, CONFIG_MAPS)]
)
@pytest.mark.parametrize("pauses", [(1.0, 5.0), (5.0, 1.0)])
async def test_the_longest_pause_that_was_asked_for_counts(
    world: World, look: Any, first: Kind, second: Kind, pauses: tuple[float, float]
) -> None:
    refusals = {first: (0.0, pauses[0]), second: (2.0, pauses[1])}
    with pytest.raises(UnavailableError) as refused:
        await look(BusyCluster(world.api, refusals))
    assert refused.value.retry_after == 5.0
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is asked any more"


async def refuse(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("worst", [ValueError("a bug"), asyncio.CancelledError()])
async def test_what_is_no_answer_of_the_api_server_is_not_hidden_by_one(
    worst: BaseException,
) -> None:
    with pytest.raises(type(worst)):
        await together(refuse(UnavailableError("busy", 60.0)), refuse(worst))


async def test_who_is_cancelled_asks_nothing_any_more() -> None:
    asking = asyncio.create_task(together(asyncio.sleep(60), asyncio.sleep(60)))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert asyncio.all_tasks() == {asyncio.current_task()}
