"""Events give way to jobs that wait for their turn, but not for ever, and are posted once."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rtj_api.names import Reason
from rtj_api.status import JobStatus
from rtj_operator import announcer
from rtj_operator.announcer import Announcer
from rtj_operator.cluster import Key
from rtj_operator.core.decision import Notice
from rtj_operator.core.observed import Job
from rtj_operator.queue import WorkQueue

from tests.model.memory_cluster import MemoryCluster
from tests.unit.leaping_time import leaping
from tests.unit.operator_looks import NOW, spec

pytestmark = pytest.mark.unit

JOB = Job("space", "job", "uid", 1, JobStatus(), spec())


def notice(message: str) -> Notice:
    return Notice(Reason.TRAINING, message, 1)


def told(cluster: MemoryCluster) -> list[str]:
    return [found["message"] for (kind, _, _), found in cluster.objects.items() if kind == "Event"]


async def until_told(cluster: MemoryCluster, *messages: str) -> None:
    changed = asyncio.Event()
    cluster.changed = lambda *_: changed.set()
    async with asyncio.timeout(60):
        while told(cluster) != [*messages]:
            await changed.wait()
            changed.clear()


@asynccontextmanager
async def announcing(cluster: MemoryCluster, queue: WorkQueue) -> AsyncIterator[Announcer]:
    made = Announcer(cluster, queue.nobody_waits)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()


@leaping
async def test_events_wait_until_no_job_does() -> None:
    cluster, queue = MemoryCluster(), WorkQueue()
    async with announcing(cluster, queue) as events:
        await events.add(JOB, notice("before the rush"), NOW)
        await until_told(cluster, "before the rush")
        queue.add(Key("space", "another"))
        await events.add(JOB, notice("one"), NOW)
        await events.add(JOB, notice("two"), NOW)
        for _ in range(20):
            await asyncio.sleep(0)
        assert told(cluster) == ["before the rush"]

        async def worker(_: Key) -> None:
            assert told(cluster) == ["before the rush"]

        working = asyncio.create_task(queue.work(worker))
        await until_told(cluster, "before the rush", "one", "two")
        working.cancel()


@leaping
async def test_no_event_waits_for_ever() -> None:
    cluster, queue = MemoryCluster(), WorkQueue()
    queue.add(Key("space", "never looked at"))
    async with announcing(cluster, queue) as events:
        await events.add(JOB, notice("one"), NOW)
        await events.add(JOB, notice("two"), NOW)
        await until_told(cluster, "one", "two")


@leaping
async def test_an_event_that_cannot_be_posted_does_not_keep_the_next_back() -> None:
    cluster, queue = MemoryCluster(), WorkQueue()
    cluster.fail_next = 1
    async with announcing(cluster, queue) as events:
        await events.add(JOB, notice("lost"), NOW)
        await events.add(JOB, notice("posted"), NOW)
        await until_told(cluster, "posted")


@leaping
async def test_an_api_server_that_takes_no_events_costs_no_endless_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(announcer, "MOST_WAITING", 2)
    cluster, queue = MemoryCluster(), WorkQueue()
    events = Announcer(cluster, queue.nobody_waits)
    with caplog.at_level(logging.WARNING):
        for message in ("one", "two", "three"):
            await events.add(JOB, notice(message), NOW)
    assert caplog.messages == ["event lost"]
    assert events.waiting() == 2
    task = asyncio.create_task(events.run())
    await until_told(cluster, "one", "two")
    task.cancel()
