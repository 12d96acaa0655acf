"""Preemptions: how fast pods are replaced, ours beside those of batch/v1 Jobs.

A preemption is what it is in life: the eviction API marks the pod with DisruptionTarget and deletes
it; its container ends; its object goes. The time runs from the event that shows the end of the pod
to the event that shows its successor.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from rtj_bench import audit, cpu
from rtj_bench.api import Api, in_parallel
from rtj_bench.figures import Figures, percentile
from rtj_bench.plane import Operator, Plane
from rtj_bench.population import (
    JobKey,
    delete_their_jobs,
    keys,
    make_jobs,
    make_namespaces,
)
from rtj_bench.say import say
from rtj_bench.sight import PodSeen, Sight
from rtj_bench.trainers import BEAT_SECONDS

SETTLE_SECONDS = 600.0
EVICTIONS_AT_ONCE = 50
PREEMPTIONS_COUNTED = 50
SECONDS_AT_REST = 20.0
LOOKS_AT_REST = 3
"""In a row, a second apart; what a trainer says last may still be on its way."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    jobs: int = 1000
    rate: float = 20.0
    """Preemptions per second."""
    seconds: float = 60.0


@dataclass
class Relaunches:
    """One running population, and what is done to it."""

    plane: Plane
    operator: Operator
    api: Api
    sight: Sight
    sizes: Sizes
    generation: int = 0
    """Of the Jobs."""
    worn: bool = False
    """Whether Jobs of this generation were preempted."""

    @classmethod
    @contextlib.asynccontextmanager
    async def populated(
        cls, plane: Plane, operator: Operator, sizes: Sizes
    ) -> AsyncIterator["Relaunches"]:
        """Make all jobs of both kinds; return when all of their pods run."""
        async with plane.api() as api:
            sight = Sight()
            relaunches = cls(plane, operator, api, sight, sizes)
            both = [*relaunches.jobs(ours=True), *relaunches.jobs(ours=False)]
            await make_namespaces(api, {key.namespace for key in both})
            await sight.open(api)
            try:
                await make_jobs(api, both)
                await relaunches.settle(both)
                say(f"{sizes.jobs} jobs and {sizes.jobs} Jobs run")
                yield relaunches
            finally:
                sight.close()

    def jobs(self, *, ours: bool) -> list[JobKey]:
        """Return the jobs of one kind."""
        return keys(self.sizes.jobs, ours=ours, generation=self.generation)

    async def renew_theirs(self) -> None:
        """Replace all Jobs by new ones: with each disruption a Job's back-off doubles."""
        old = self.jobs(ours=False)
        await delete_their_jobs(self.api, {key.namespace for key in old})
        await self._until(
            "the old Jobs' pods are gone",
            lambda: all(pod.ended for key in old for pod in self.sight.pods.get(key, [])),
        )
        self.generation += 1
        self.worn = False
        await make_jobs(self.api, self.jobs(ours=False))

    async def prepare(self, *, ours: bool) -> None:
        """Have everything of one kind run undisturbed, and the Jobs as if they always had."""
        if not ours and self.worn:
            await self.renew_theirs()
        self.worn = self.worn or not ours
        await self.settle([*self.jobs(ours=True), *self.jobs(ours=False)])

    async def settle(self, jobs: Sequence[JobKey]) -> None:
        """Wait until all of these run, and their trainers have beaten."""
        await self._until("all pods run", lambda: all(map(self.sight.running, jobs)))
        await asyncio.sleep(2 * BEAT_SECONDS)

    async def sustained(self, *, ours: bool) -> list[float]:
        """Preempt at the rate; return the seconds from each end to its successor."""
        jobs = self.jobs(ours=ours)
        struck: list[tuple[JobKey, PodSeen]] = []
        began = time.monotonic()
        victims = cycle(jobs)
        async with asyncio.TaskGroup() as group:
            for number in range(int(self.sizes.rate * self.sizes.seconds)):
                await asyncio.sleep(began + number / self.sizes.rate - time.monotonic())
                key = next(victims)
                if pod := self.sight.running(key):
                    struck.append((key, pod))
                    group.create_task(self._evict(key, pod))
        await self._replaced(struck)
        return [self._seconds(key, pod) for key, pod in struck]

    async def zone(self, *, ours: bool) -> float:
        """Preempt all at once; return the seconds from the first end to the last successor."""
        struck = [(key, pod) for key in self.jobs(ours=ours) if (pod := self.sight.running(key))]
        await in_parallel(lambda pair: self._evict(*pair), struck, EVICTIONS_AT_ONCE)
        await self._replaced(struck)
        first = min(pod.ended for _, pod in struck if pod.ended)
        successors = [self.sight.successor(key, pod) for key, pod in struck]
        return max(successor.created for successor in successors if successor) - first

    async def writes_per_preemption(self) -> float:
        """Preempt a few of ours while their trainers stand still; count all that is written."""
        jobs = self.jobs(ours=True)[:PREEMPTIONS_COUNTED]
        await self._told_all()
        since = audit.now()
        struck = [(key, pod) for key in jobs if (pod := self.sight.running(key))]
        await in_parallel(lambda pair: self._evict(*pair), struck, 4)
        await self._replaced(struck)
        await self.settle(jobs)
        await self._told_all()
        writes = audit.writes(self.plane.control_plane.folder / "log", since)
        say(f"writes of {len(struck)} preemptions: {dict(writes)}")
        return sum(writes.values()) / len(struck)

    async def _told_all(self) -> None:
        """Wait until the operator has shown all that it has heard of."""
        at_rest = 0
        async with asyncio.timeout(SETTLE_SECONDS):
            while at_rest < LOOKS_AT_REST:
                await asyncio.sleep(1)
                counts = [
                    await asyncio.to_thread(self.operator.metric, name)
                    for name in ("rtj_queue_depth", "rtj_events_waiting")
                ]
                at_rest = 0 if any(counts) else at_rest + 1

    async def _evict(self, key: JobKey, pod: PodSeen) -> None:
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": key.namespace},
        }
        path = f"/api/v1/namespaces/{key.namespace}/pods/{pod.name}/eviction"
        await self.api.request("POST", path, body)

    async def _replaced(self, struck: Sequence[tuple[JobKey, PodSeen]]) -> None:
        await self._until(
            "all preempted pods are replaced",
            lambda: all(pod.ended and self.sight.successor(key, pod) for key, pod in struck),
        )

    async def _until(self, what: str, holds: Callable[[], bool]) -> None:
        def holds_yet() -> bool:
            self.operator.must_live()
            return holds()

        await self.sight.until(what, holds_yet, SETTLE_SECONDS)

    def _seconds(self, key: JobKey, pod: PodSeen) -> float:
        successor = self.sight.successor(key, pod)
        if successor is None or pod.ended is None:
            raise ValueError(f"{pod.name} was not replaced")
        return successor.created - pod.ended


async def measure(plane: Plane, sizes: Sizes, repeats: int, figures: Figures) -> None:
    """Fill in all figures about preemptions."""
    with plane.operator() as operator:
        operator.wait_until_ready()
        plane.play_trainers(still=True)
        async with Relaunches.populated(plane, operator, sizes) as relaunches:
            for _ in range(repeats):
                writes = await relaunches.writes_per_preemption()
                figures.add({"writes_per_preemption": writes})
            plane.stop("trainers")
            plane.play_trainers(still=False)
            await _rest(relaunches)
            for repeat in range(repeats):
                # Neither kind always comes first.
                for ours in (True, False) if repeat % 2 == 0 else (False, True):
                    await _repeat(relaunches, figures, ours=ours)


async def _rest(relaunches: Relaunches) -> None:
    """Say what it costs that all of them run: preemptions have only what is left of the cores."""
    control_plane = relaunches.plane.control_plane
    await relaunches.prepare(ours=True)
    before = cpu.of_all(control_plane)
    await asyncio.sleep(SECONDS_AT_REST)
    used = cpu.between(before, cpu.of_all(control_plane))
    say(f"at rest: {cpu.told_of_cores(used, SECONDS_AT_REST)}")


async def _repeat(relaunches: Relaunches, figures: Figures, *, ours: bool) -> None:
    control_plane = relaunches.plane.control_plane
    prefix, name = ("", "jobs of ours") if ours else ("job_", "batch/v1 Jobs")
    await relaunches.prepare(ours=ours)
    began, before = time.monotonic(), cpu.of_all(control_plane)
    samples = await relaunches.sustained(ours=ours)
    used = cpu.between(before, cpu.of_all(control_plane))
    half, most = percentile(samples, 50), percentile(samples, 99)
    figures.add({f"{prefix}relaunch_p50_s": half, f"{prefix}relaunch_p99_s": most})
    say(
        f"{name}: {len(samples)} preemptions, p50 {half:.3f} s, p99 {most:.3f} s, "
        f"most {max(samples):.3f} s; in {time.monotonic() - began:.0f} s "
        f"{cpu.told(used, len(samples))}"
    )
    await relaunches.prepare(ours=ours)
    before = cpu.of_all(control_plane)
    seconds = await relaunches.zone(ours=ours)
    used = cpu.between(before, cpu.of_all(control_plane))
    figures.add({f"{prefix}zone_relaunch_s": seconds})
    jobs = relaunches.sizes.jobs
    say(f"{name}: all {jobs} at once, relaunched after {seconds:.2f} s with {cpu.told(used, jobs)}")
