"""One turn of the loop: look, decide, write the decision, act on it, and say so.

It begins with a glance at what the watches said last. Where that leads to waiting on, nothing is
read. Anything else is decided again, and done, after a live look, or after one that the write of
what was decided proves to have been live.

The order makes a crash at any point harmless. Before the status write nothing has happened; after
it, the next look finds the decision and finishes the actions, which may all be repeated. Only an
Event can be lost.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rtj_api.names import Reason
from rtj_api.status import JobStatus

from rtj_operator import metrics
from rtj_operator.cluster import (
    JOBS,
    Cluster,
    ConflictError,
    Key,
    Manifest,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from rtj_operator.core.decide import decide
from rtj_operator.core.decision import (
    NOTICE_LENGTH,
    Decision,
    Notice,
    waits,
)
from rtj_operator.core.observed import Job, Observed, Problem, Settings
from rtj_operator.execute import Executor
from rtj_operator.memory import Memory
from rtj_operator.observe import believe, glance, observe

log = logging.getLogger(__name__)

LONGEST_TIME_BETWEEN_LOOKS = 300.0
"""In seconds; whatever event was missed is made good then."""

MOST_MIRRORED_PER_SECOND = 25.0
MOST_MIRRORED_PER_SECOND_IN_A_RUSH = 2.5

Look = Callable[[Cluster, Key, Memory, Settings], Awaitable[tuple[Manifest, Observed] | None]]

Tell = Callable[[Job, Notice, datetime], Awaitable[None]]
"""Sees to it that an Event is posted; never fails."""


@dataclass(frozen=True)
class _Turn:
    """What a look found, and what was decided from it."""

    raw: Manifest
    """The job as it was seen, for its version."""
    job: Job
    decision: Decision

    @property
    def changes_status(self) -> bool:
        return self.decision.status != self.job.status


def utc_now() -> datetime:
    """Return the time that is written into status."""
    return datetime.now(UTC)


def mirror_interval(least: float, jobs: int, waiting: int) -> float:
    """Return the seconds between two writes of one job's step: more, where more jobs are at work.

    A status write costs the API server some milliseconds, and nobody reads a thousand of them. It
    can wait still longer while jobs wait for their turn, as when a zone was lost.
    """
    rate = MOST_MIRRORED_PER_SECOND_IN_A_RUSH if waiting else MOST_MIRRORED_PER_SECOND
    return max(least, jobs / rate)


class Reconciler:
    """Brings one job at a time to where its spec wants it."""

    def __init__(
        self,
        cluster: Cluster,
        memory: Memory,
        settings: Settings,
        tell: Tell,
        now: Callable[[], datetime] = utc_now,
        jobs_waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        self._cluster = cluster
        self._memory = memory
        self._executor = Executor(cluster, memory, self._warn)
        self._settings = settings
        self._tell = tell
        self._now = now
        self._jobs_waiting = jobs_waiting

    async def __call__(self, key: Key) -> float | None:
        """Take one turn; return the seconds until the next is due, None if only an event can tell.

        Raises ClusterError, after which the turn must be taken again.
        """
        decision = await self._needs_nothing(key)
        if decision is not None:
            return decision.requeue_after
        decided = await self._decide(key)
        if decided is None:
            self._memory.forget(key)
            metrics.JOBS.forget(key)
            return None
        job, decision = decided
        try:
            return await self._executor.carry_out(key, job, decision)
        finally:
            await self._say(job, decision)

    async def _decide(self, key: Key) -> tuple[Job, Decision] | None:
        """Look, decide, and write what was decided; None if there is no such job.

        An end that changes status needs no reading of the job: the write fails if it is another.
        """
        believed = await self._consider(believe, key)
        if believed and believed.changes_status:
            with suppress(ConflictError, NotFoundError):
                return await self._write_down(key, believed)
        live = await self._consider(observe, key)
        return await self._write_down(key, live) if live else None

    async def _write_down(self, key: Key, turn: _Turn) -> tuple[Job, Decision]:
        """Write what was decided. Raises ClusterError, having told of a refusal."""
        try:
            await self._show(key, turn)
        except RejectedError as error:
            await self._tell_of_refused_status(key, turn.job, error)
            raise
        return turn.job, turn.decision

    async def _needs_nothing(self, key: Key) -> Decision | None:
        """Return what a glance leads to if that is to wait, having written how the job stands.

        What it was written from may be old, but not older than the status that it replaces: a
        status that the glance did not know makes the write fail.
        """
        if self._memory.since_looked(key) >= LONGEST_TIME_BETWEEN_LOOKS:
            return None
        turn = await self._consider(glance, key)
        if turn is None or not waits(turn.job.status, turn.decision):
            return None
        try:
            await self._show(key, turn)
        except (ConflictError, NotFoundError, RejectedError):
            return None
        await self._say(turn.job, turn.decision)
        return turn.decision

    async def _consider(self, how: Look, key: Key) -> _Turn | None:
        """Look at a job, and decide; None if that look cannot see it."""
        look = await self._look(how, key)
        if look is None:
            return None
        raw, observed = look
        return _Turn(raw, observed.job, decide(observed, self._now()))

    async def _look(self, how: Look, key: Key) -> tuple[Manifest, Observed] | None:
        """Look at a job; without an answer, trainers and nodes may be unable to speak as well.

        An error says less: one job's admission webhook, or one namespace whose pods cannot be
        read, must not make us deaf to the death of all other jobs' nodes. That nobody can write,
        the leader's Lease tells.
        """
        try:
            return await how(self._cluster, key, self._memory, self._scaled_settings())
        except UnavailableError as error:
            if not error.answered:
                self._memory.silences.interrupted()
            raise

    def _scaled_settings(self) -> Settings:
        settings, jobs = self._settings, len(self._memory.sightings)
        interval = mirror_interval(settings.mirror_interval, jobs, self._jobs_waiting())
        return replace(settings, mirror_interval=interval)

    async def _show(self, key: Key, turn: _Turn) -> None:
        """Write the status that was decided, where it is another one."""
        before, decision = turn.job.status, turn.decision
        if turn.changes_status:
            await self._write(key, turn.raw, decision.status)
            metrics.count(before, decision.status)
            _log_turn(key, before, decision.status)
        metrics.JOBS.saw(key, decision.status)
        if decision.mirrored:
            self._memory.mirrored(key)

    async def _say(self, job: Job, decision: Decision) -> None:
        now = self._now()
        await asyncio.gather(*(self._tell(job, notice, now) for notice in decision.notices))

    async def _tell_of_refused_status(self, key: Key, job: Job, error: RejectedError) -> None:
        """Say where it can be said that nothing is done for the job as long as this lasts."""
        log.error("status refused", extra={"job": str(key), "reason": str(error)})
        message = f"The status was refused, and nothing is done before it is written: {error}"
        await self._warn(job, Problem(Reason.STATUS_REJECTED, message))

    async def _warn(self, job: Job, problem: Problem) -> None:
        number = job.status.attempt.number if job.status.attempt else 0
        notice = Notice(problem.reason, problem.message[:NOTICE_LENGTH], number, "Warning")
        await self._tell(job, notice, self._now())

    async def _write(self, key: Key, raw: Manifest, status: JobStatus) -> None:
        fields = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        body = {**raw, "status": fields}
        written = await self._cluster.replace(JOBS, key.namespace, body, "status")
        self._memory.sightings.job(key, written)


def _log_turn(key: Key, old: JobStatus, new: JobStatus) -> None:
    number = new.attempt.number if new.attempt else None
    if (old.phase, old.attempt and old.attempt.number) != (new.phase, number):
        log.info(
            "turn",
            extra={"job": str(key), "phase": new.phase, "attempt": number, "was": old.phase},
        )
