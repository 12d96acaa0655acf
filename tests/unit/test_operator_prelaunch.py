"""What a pod mounts is looked for before it is made, but not again and again."""

import weakref

import pytest
from rtj_api.names import Reason
from rtj_operator.cluster import CLAIMS, CONFIG_MAPS, JOBS, Kind, Manifest
from rtj_operator.memory import Memory
from rtj_operator.parse import parse_job
from rtj_operator.prelaunch import find_needs
from rtj_operator.recent import FRESH_SECONDS

from tests.model.world import JOB, NAMESPACE, World

pytestmark = pytest.mark.unit


class Before:
    """A moment before a pod is made."""

    def __init__(self, world: World, reads: list[str]) -> None:
        self.world, self._reads = world, reads
        self._memory = Memory(lambda: world.time)

    async def look(self) -> tuple[list[Reason], bool, list[str]]:
        """Return what is missing, whether the claim is exclusive, and what was read for it."""
        job = parse_job(await self.world.api.get(JOBS, NAMESPACE, JOB))
        self._reads.clear()
        needs = await find_needs(self.world.api, job, self._memory)
        return [p.reason for p in needs.problems], needs.exclusive_claim, [*self._reads]

    def remove(self, kind: Kind) -> Manifest:
        """Remove the only object of a kind, and return it."""
        name = {CLAIMS: "work", CONFIG_MAPS: "code"}[kind]
        manifest = self.world.api.read(kind.kind, NAMESPACE, name)
        self.world.api.remove(kind.kind, NAMESPACE, name)
        return manifest


@pytest.fixture
def before(world: World, reads: list[str]) -> Before:
    """Return a moment before a pod is made, with all that it needs."""
    return Before(world, reads)


async def test_what_was_there_a_moment_ago_is_not_read_again(before: Before) -> None:
    first = await before.look()
    assert first == ([], False, [CLAIMS.kind, CONFIG_MAPS.kind])
    before.world.time += FRESH_SECONDS - 1
    assert await before.look() == ([], False, [])
    before.world.time += 1
    assert await before.look() == ([], False, [CLAIMS.kind, CONFIG_MAPS.kind])


async def test_that_a_claim_is_exclusive_is_remembered(before: Before) -> None:
    claim = before.remove(CLAIMS)
    before.world.api.put(
        CLAIMS.kind, NAMESPACE, {**claim, "spec": {"accessModes": ["ReadWriteOnce"]}}
    )
    assert [(await before.look())[1] for _ in range(2)] == [True, True]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(CLAIMS, Reason.CLAIM_NOT_FOUND), (CONFIG_MAPS, Reason.BUILDER_NOT_FOUND)],
)
async def test_what_is_missing_is_looked_for_each_time(
    before: Before, kind: Kind, reason: Reason
) -> None:
    missing = before.remove(kind)
    assert (await before.look())[0] == [reason]
    before.world.api.put(kind.kind, NAMESPACE, missing)
    assert (await before.look())[0] == []


async def test_a_file_that_was_not_in_the_config_map_is_looked_for_each_time(
    before: Before,
) -> None:
    whole = before.remove(CONFIG_MAPS)
    before.world.api.put(CONFIG_MAPS.kind, NAMESPACE, {**whole, "data": {"other.py": ""}})
    assert (await before.look())[0] == [Reason.BUILDER_NOT_FOUND]
    before.world.api.remove(CONFIG_MAPS.kind, NAMESPACE, "code")
    before.world.api.put(CONFIG_MAPS.kind, NAMESPACE, whole)
    assert (await before.look())[0] == []


class Keys(list[str]):
    """Can be referred to weakly."""


def test_what_is_too_old_takes_no_memory(world: World) -> None:
    memory = Memory(lambda: world.time)
    noted = []
    for number in range(100):
        world.time += 1
        keys = Keys(["a.py"])
        noted.append(weakref.ref(keys))
        memory.config_maps.note(NAMESPACE, str(number), keys)
        del keys
    assert sum(each() is not None for each in noted) == FRESH_SECONDS
