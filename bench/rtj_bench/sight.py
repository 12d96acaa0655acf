"""The one watch, with the one clock, that says when a pod ended and when its successor was made."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rtj_api.names import LABEL_JOB

from rtj_bench.api import Api, Manifest
from rtj_bench.population import LABEL_BATCH_JOB, JobKey


@dataclass
class PodSeen:
    """One pod; times are time.monotonic() at the arrival of the event, None until then."""

    name: str
    uid: str
    created: float
    running: float | None = None
    ended: float | None = None
    """Its phase is Failed or Succeeded, or its object is gone."""


@dataclass
class Sight:
    """Every pod of every job, oldest first."""

    pods: dict[JobKey, list[PodSeen]] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    async def open(self, api: Api) -> None:
        """Begin to watch."""
        items, version = await api.list("/api/v1/pods")
        for item in items:
            self.saw("ADDED", item)

        async def follow() -> None:
            async for kind, pod in api.watch("/api/v1/pods", version):
                self.saw(kind, pod)

        self._task = asyncio.create_task(follow())

    def close(self) -> None:
        """Stop watching."""
        if self._task:
            self._task.cancel()

    def saw(self, kind: str, pod: Manifest) -> None:
        """Take an event, at the moment of its arrival."""
        now, meta, status = time.monotonic(), pod["metadata"], pod.get("status", {})
        key = key_of(pod)
        if key is None:
            return
        seen = self.pods.setdefault(key, [])
        found = next((each for each in reversed(seen) if each.uid == meta["uid"]), None)
        if found is None:
            found = PodSeen(meta["name"], meta["uid"], now)
            seen.append(found)
        if found.running is None and status.get("phase") == "Running":
            found.running = now
        if found.ended is None and (
            kind == "DELETED" or status.get("phase") in ("Failed", "Succeeded")
        ):
            found.ended = now

    def running(self, key: JobKey) -> PodSeen | None:
        """Return the newest pod of a job if it runs."""
        seen = self.pods.get(key)
        return seen[-1] if seen and seen[-1].running and seen[-1].ended is None else None

    def successor(self, key: JobKey, pod: PodSeen) -> PodSeen | None:
        """Return the pod that was made after this one."""
        seen = self.pods[key]
        at = next(number for number, each in enumerate(seen) if each.uid == pod.uid)
        return seen[at + 1] if at + 1 < len(seen) else None

    async def until(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        """Wait for something to be seen.

        Raises:
            TimeoutError: it was not; the message names it.
        """
        deadline = time.monotonic() + seconds
        while not holds():
            if self._task and self._task.done():
                self._task.result()
                raise ConnectionError("the watch of the pods has ended")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}")
            await asyncio.sleep(0.1)


def key_of(pod: Manifest) -> JobKey | None:
    """Return whose pod it is."""
    meta = pod["metadata"]
    labels = meta.get("labels") or {}
    if name := labels.get(LABEL_JOB):
        return JobKey(True, meta["namespace"], name)
    if name := labels.get(LABEL_BATCH_JOB):
        return JobKey(False, meta["namespace"], name)
    return None
