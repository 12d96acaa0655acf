"""Leader election by a Lease, so that a second process of the operator waits instead of acting.

It only saves needless work: actions are idempotent and status writes carry a resourceVersion, so
even two leaders for a moment do no harm. Expiry is judged by how long this process has seen the
Lease unchanged, never by comparing clocks.
"""

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime

from rtj_operator.cluster import (
    LEASES,
    AlreadyExistsError,
    Cluster,
    ClusterError,
    ConflictError,
    Manifest,
    NotFoundError,
    UnavailableError,
)
from rtj_operator.health import Pulse
from rtj_operator.metrics import LEADER

log = logging.getLogger(__name__)

LEASE_NAME = "rtj-operator"
"""Unless the environment says otherwise, as the chart does: each release has a Lease of its own."""
DURATION_SECONDS = 10
"""Shorter than the silence of a dead node: where the leader dies with a trainer's node, the next
leader is there in time to notice."""
RENEW_SECONDS = 2.0
REQUEST_SECONDS = 3.0
RENEW_DEADLINE_SECONDS = 7.0


class LeadershipLostError(Exception):
    """Another process leads, or nobody can tell: stop at once."""


class Leader:
    """Takes and holds the Lease; its renewals also prove that the API server is in reach."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        identity: str,
        pulse: Pulse,
        lease: str = LEASE_NAME,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._lease = lease
        self._identity = identity
        self._pulse = pulse
        self._held: Manifest | None = None
        """As this process wrote it last; None if it does not lead."""
        self._seen: object = None
        self._seen_at = 0.0
        self._looked_at = 0.0
        self._pause = RENEW_SECONDS

    async def acquire(self) -> None:
        """Wait until this process leads."""
        while True:
            if await self._try():
                break
            await asyncio.sleep(self._pause)
        LEADER.set(1)
        log.info("leading", extra={"identity": self._identity})

    async def hold(self) -> None:
        """Renew for ever.

        Raises:
            LeadershipLostError: another process leads, or nobody can tell.
        """
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._pause)
            if await self._try():
                renewed = time.monotonic()
            elif time.monotonic() + self._pause - RENEW_SECONDS - renewed > RENEW_DEADLINE_SECONDS:
                raise LeadershipLostError(f"{self._identity} could not renew {self._lease}")

    async def hand_over(self, leading: asyncio.Task[None]) -> None:
        """End what this process does as the leader, and only then let another lead."""
        leading.cancel()
        await asyncio.wait({leading}, timeout=REQUEST_SECONDS)
        await self.release()

    async def release(self) -> None:
        """Hand over at once instead of letting the Lease expire; best effort."""
        with contextlib.suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(REQUEST_SECONDS):
                while not await self._released():
                    pass

    async def _released(self) -> bool:
        """Let go of the Lease; return False where somebody changed it at the same moment.

        A cancelled renewal is such a change: the API server may carry it out all the same.
        """
        lease = await self._cluster.get(LEASES, self._namespace, self._lease)
        if lease["spec"].get("holderIdentity") != self._identity:
            return True
        lease["spec"]["holderIdentity"] = ""
        try:
            await self._cluster.replace(LEASES, self._namespace, lease)
        except ConflictError:
            return False
        return True

    async def _try(self) -> bool:
        """Take or renew the Lease, and note after which pause to do so again."""
        self._pause = RENEW_SECONDS
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                leads = await self._take_or_renew()
        except (ConflictError, AlreadyExistsError):
            return False
        except (ClusterError, TimeoutError) as error:
            log.warning("leader lease", extra={"error": repr(error)})
            if isinstance(error, UnavailableError | TimeoutError):
                self._pulse.silences.interrupted()
            if isinstance(error, UnavailableError):
                self._pause = max(RENEW_SECONDS, error.retry_after)
            return False
        finally:
            self._pulse.came_round(self._pause)
        self._pulse.silences.contact()
        return leads

    async def _take_or_renew(self) -> bool:
        if self._held is not None:
            # One request, not two: where the API server is slow, there may be no time for both.
            try:
                await self._write(self._held)
            except (ConflictError, NotFoundError):
                self._held = None
            else:
                return True
        now = self._pulse.clock()
        try:
            lease = await self._cluster.get(LEASES, self._namespace, self._lease)
        except NotFoundError:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._lease, "namespace": self._namespace},
                "spec": self._spec({}),
            }
            self._held = await self._cluster.create(LEASES, self._namespace, lease)
            return True
        if self._seen not in (None, lease["metadata"]["resourceVersion"]):
            self._pulse.changed(LEASES, self._namespace, self._looked_at)
        self._looked_at = now
        if not self._free(lease):
            return False
        await self._write(lease)
        return True

    async def _write(self, lease: Manifest) -> None:
        renewed = {**lease, "spec": self._spec(lease.get("spec") or {})}
        self._held = await self._cluster.replace(LEASES, self._namespace, renewed)

    def _free(self, lease: Manifest) -> bool:
        version, spec = lease["metadata"]["resourceVersion"], lease.get("spec") or {}
        if version != self._seen:
            self._seen, self._seen_at = version, time.monotonic()
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        duration = spec.get("leaseDurationSeconds") or DURATION_SECONDS
        return time.monotonic() - self._seen_at > duration

    def _spec(self, old: Manifest) -> Manifest:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = old.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": old.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": (old.get("leaseTransitions") or 0) + (0 if ours else 1),
        }
