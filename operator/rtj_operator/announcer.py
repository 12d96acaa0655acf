"""Posts Events behind everything that a job waits for.

An Event is a write like that of the pod that it tells of. After the loss of a zone, when thousands
are due at once, they wait until no job does, though not for ever: people read them later.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from rtj_operator.act import announce
from rtj_operator.cluster import Cluster
from rtj_operator.core.decision import Notice
from rtj_operator.core.observed import Job

log = logging.getLogger(__name__)

AT_ONCE = 4
LONGEST_WAIT_SECONDS = 30.0
MOST_WAITING = 10_000
"""Some megabytes; an API server that takes no Events must not cost more."""


class Announcer:
    """Keeps what is to be told, in its order, and tells it.

    Args:
        cluster: Where the Events go.
        no_job_waits: Returns as soon as no job waits for its turn.
    """

    def __init__(self, cluster: Cluster, no_job_waits: Callable[[], Awaitable[object]]) -> None:
        self._cluster = cluster
        self._no_job_waits = no_job_waits
        self._due: asyncio.Queue[tuple[float, Job, Notice, datetime]]
        self._due = asyncio.Queue(MOST_WAITING)

    async def add(self, job: Job, notice: Notice, now: datetime) -> None:
        """Ask for an Event; returns at once."""
        try:
            self._due.put_nowait((time.monotonic(), job, notice, now))
        except asyncio.QueueFull:
            log.warning("event lost", extra={"job": job.name, "reason": "too many wait"})

    def waiting(self) -> int:
        """Return how many are yet to be posted."""
        return self._due.qsize()

    async def run(self) -> None:
        """Post for ever; `AT_ONCE` of these run side by side."""
        while True:
            since, job, notice, now = await self._due.get()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(since + LONGEST_WAIT_SECONDS - time.monotonic()):
                    await self._no_job_waits()
            await announce(self._cluster, job, notice, now)
