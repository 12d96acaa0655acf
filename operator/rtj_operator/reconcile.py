"""One turn of the loop: look, decide, write the decision, act on it, and say so.

The order makes a crash at any point harmless. Before the status write nothing has happened; after
it, the next look finds the decision and finishes the actions, which may all be repeated. Only an
Event can be lost.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from rtj_api.status import JobStatus

from rtj_operator import metrics
from rtj_operator.act import RefusedError, announce, perform
from rtj_operator.cluster import JOBS, Cluster, ClusterError, Key, Manifest, UnavailableError
from rtj_operator.core.decide import decide
from rtj_operator.core.decision import CreatePod, Notice
from rtj_operator.core.observed import Job, Settings
from rtj_operator.memory import Memory
from rtj_operator.observe import observe

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the time that is written into status."""
    return datetime.now(UTC)


class Reconciler:
    """Brings one job at a time to where its spec wants it."""

    def __init__(
        self,
        cluster: Cluster,
        memory: Memory,
        settings: Settings,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._cluster = cluster
        self._memory = memory
        self._settings = settings
        self._now = now

    async def __call__(self, key: Key) -> float | None:
        """Take one turn; return the seconds until the next is due, None if only an event can tell.

        Raises ClusterError, after which the turn must be taken again.
        """
        try:
            return await self._turn(key)
        except UnavailableError:
            self._memory.silences.interrupted()
            raise

    async def _turn(self, key: Key) -> float | None:
        look = await observe(self._cluster, key, self._memory, self._settings)
        if look is None:
            self._memory.forget(key)
            metrics.JOBS.forget(key)
            return None
        raw, observed = look
        job = observed.job
        decision = decide(observed, self._now())
        if decision.status != job.status:
            await self._write(raw, decision.status)
            metrics.count(job.status, decision.status)
            _log_turn(key, job.status, decision.status)
        metrics.JOBS.saw(key, decision.status)
        if decision.mirrored:
            self._memory.mirrored(key)
        try:
            for action in decision.actions:
                await perform(self._cluster, job, action)
                if isinstance(action, CreatePod):
                    self._memory.accepted(key)
        except RefusedError as error:
            log.warning("refused", extra={"job": str(key), "reason": str(error)})
            return self._memory.refused(key, error.problem)
        finally:
            await asyncio.gather(*(self._announce(job, notice) for notice in decision.notices))
        return decision.requeue_after

    async def _write(self, raw: Manifest, status: JobStatus) -> None:
        fields = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        body = {**raw, "status": fields}
        await self._cluster.replace(JOBS, raw["metadata"]["namespace"], body, "status")

    async def _announce(self, job: Job, notice: Notice) -> None:
        try:
            await announce(self._cluster, job, notice, self._now())
        except ClusterError as error:
            log.warning("event lost", extra={"job": job.name, "reason": str(error)})


def _log_turn(key: Key, old: JobStatus, new: JobStatus) -> None:
    number = new.attempt.number if new.attempt else None
    if (old.phase, old.attempt and old.attempt.number) != (new.phase, number):
        log.info(
            "turn",
            extra={"job": str(key), "phase": new.phase, "attempt": number, "was": old.phase},
        )
