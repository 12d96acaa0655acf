"""One turn of the loop: look, decide, write the decision, act on it, and say so.

The order makes a crash at any point harmless. Before the status write nothing has happened; after
it, the next look finds the decision and finishes the actions, which may all be repeated. Only an
Event can be lost.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from rtj_api.names import Reason
from rtj_api.status import JobStatus

from rtj_operator import metrics
from rtj_operator.act import RefusedError, announce, perform
from rtj_operator.cluster import JOBS, Cluster, ClusterError, Key, Manifest, UnavailableError
from rtj_operator.core.decide import decide
from rtj_operator.core.decision import Action, CreatePod, EnsureObjects, Notice
from rtj_operator.core.observed import Job, Observed, Problem, Settings
from rtj_operator.memory import Memory
from rtj_operator.observe import observe

log = logging.getLogger(__name__)

LONGEST_HIDDEN_FAILURE_SECONDS = 10.0
"""An error of the API server mostly passes; one that creating a pod meets for longer, such as a
webhook that is down, must be seen by whoever reads the job."""


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
        look = await self._look(key)
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
                await self._perform(key, job, action)
        except RefusedError as error:
            log.warning("refused", extra={"job": str(key), "reason": str(error)})
            return self._memory.refused(key, error.problem)
        finally:
            await asyncio.gather(*(self._announce(job, notice) for notice in decision.notices))
        return decision.requeue_after

    async def _look(self, key: Key) -> tuple[Manifest, Observed] | None:
        """Look at a job; where that fails, trainers and nodes may be unable to speak as well.

        A write that fails says less: one job's admission webhook must not make us deaf to the
        death of all other jobs' nodes. That nobody can write, the leader's Lease tells.
        """
        try:
            return await observe(self._cluster, key, self._memory, self._settings)
        except UnavailableError:
            self._memory.silences.interrupted()
            raise

    async def _perform(self, key: Key, job: Job, action: Action) -> None:
        try:
            await perform(self._cluster, job, action)
        except UnavailableError as error:
            creates = isinstance(action, CreatePod | EnsureObjects)
            if not creates or error.retry_after:
                raise
            if self._memory.failing(key) >= LONGEST_HIDDEN_FAILURE_SECONDS:
                message = f"{job.name} gets no pod, since the API server fails: {error}"
                raise RefusedError(Problem(Reason.POD_REJECTED, message)) from error
            raise
        if isinstance(action, CreatePod):
            self._memory.accepted(key)

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
