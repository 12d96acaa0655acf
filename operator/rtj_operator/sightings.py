"""What the watches showed last of the jobs at work: each job, its Lease, its pods.

It may be old, and is never acted on. It serves to tell without a request that there is nothing to
do, which is the answer of almost every look: a running job is looked at every ten seconds, and
three reads each time cost the API server more than all writes do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rtj_api.names import Phase

from rtj_operator.cluster import Key, Manifest
from rtj_operator.core.observed import Job, Pod
from rtj_operator.parse import owner_of, parse_job

_AT_REST = {Phase.COMPLETED, Phase.FAILED, Phase.SUSPENDED}


@dataclass(frozen=True)
class Sighting:
    """A job, its pods, and its Lease if it has one."""

    job: Manifest
    pods: tuple[Pod, ...]
    lease: Manifest | None


@dataclass(frozen=True)
class _SeenPod:
    owner: str
    """Its uid."""
    version: int
    pod: Pod


class Sightings:
    """Keeps the newest of everything; nothing but the pods of a job at rest."""

    def __init__(self) -> None:
        self._jobs: dict[Key, Manifest] = {}
        self._read: dict[Key, tuple[int, Job]] = {}
        """With its version."""
        self._leases: dict[Key, Manifest] = {}
        self._pods: dict[Key, dict[str, _SeenPod]] = {}
        """By uid."""

    def __len__(self) -> int:
        """Return how many jobs are at work."""
        return len(self._jobs)

    def jobs(self) -> tuple[Key, ...]:
        """Return the jobs at work."""
        return tuple(self._jobs)

    def job(self, key: Key, body: Mapping[str, Any]) -> None:
        """Note a job, from an event or from the answer to a request, which may outrun the events.

        So an event may tell that a job rests which has long been resumed.
        """
        if _is_older(body, self._jobs.get(key)):
            return
        if (body.get("status") or {}).get("phase") in _AT_REST:
            self.forget(key)
        else:
            self._jobs[key] = dict(body)

    def lease(self, key: Key, body: Mapping[str, Any]) -> None:
        """Note a job's Lease."""
        if key in self._jobs and not _is_older(body, self._leases.get(key)):
            self._leases[key] = dict(body)

    def lease_gone(self, key: Key, uid: str) -> None:
        """Drop a job's Lease, but not another one that has its name by now."""
        known = self._leases.get(key)
        if known and known["metadata"]["uid"] == uid:
            del self._leases[key]

    def pod(self, key: Key, body: Mapping[str, Any], pod: Pod) -> Pod | None:
        """Note a pod, and what was read from its body; return as what it was known."""
        pods = self._pods.setdefault(key, {})
        known = pods.get(pod.uid)
        if known is None or _version(body) >= known.version:
            pods[pod.uid] = _SeenPod(owner_of(body), _version(body), pod)
        return known.pod if known else None

    def known_pod(self, key: Key, body: Mapping[str, Any], pod: Pod) -> None:
        """Note a pod from the answer to a request, unless a watch has yet to tell of it.

        It might be gone by now, and a pod that the watch has let go must not come back.
        """
        if pod.uid in self._pods.get(key, {}):
            self.pod(key, body, pod)

    def pod_gone(self, key: Key, uid: str) -> Pod | None:
        """Drop a pod; return as what it was known."""
        pods = self._pods.get(key, {})
        known = pods.pop(uid, None)
        if not pods:
            self._pods.pop(key, None)
        return known.pod if known else None

    def forget(self, key: Key) -> None:
        """Drop a job that is gone or at rest, with its Lease."""
        self._jobs.pop(key, None)
        self._read.pop(key, None)
        self._leases.pop(key, None)

    def of(self, key: Key) -> Sighting | None:
        """Return what was seen last, or None if the job is not at work."""
        job = self._jobs.get(key)
        if job is None:
            return None
        uid = job["metadata"]["uid"]
        lease = self._leases.get(key)
        mine = lease if lease and owner_of(lease) == uid else None
        return Sighting(job, self.pods_of(key, uid), mine)

    def read(self, key: Key, raw: Manifest) -> Job:
        """Read a job: while it is at work once, however often it is looked at before it changes.

        Raises:
            pydantic.ValidationError: its status makes no sense.
        """
        known, version = self._read.get(key), _version(raw)
        if known is None or known[0] != version:
            known = (version, parse_job(raw))
            if key in self._jobs:
                self._read[key] = known
        return known[1]

    def pods_of(self, key: Key, uid: str) -> tuple[Pod, ...]:
        """Return the pods of the job with this uid, also of one at rest."""
        return tuple(seen.pod for seen in self._pods.get(key, {}).values() if seen.owner == uid)


def _is_older(body: Mapping[str, Any], known: Manifest | None) -> bool:
    return known is not None and _version(body) < _version(known)


def _version(body: Mapping[str, Any]) -> int:
    """Return the resourceVersion, which is a number that grows with every write (KEP-5504)."""
    return int(body["metadata"]["resourceVersion"])
