"""Plays all trainers: `python -m rtj_bench.trainers <server> <pki folder> <token file> [--still]`.

Fake pods run nothing, so nobody would beat their Leases. This process beats each as a real trainer
does, from the moment when its pod runs: every five seconds, with a step that moves on and, at the
attempt's start, a commit that is newer than the one before. It is a process of its own, so that its
work does not delay the measuring.

With `--still` the step stands: then nothing is mirrored into status, and every write of the
operator is due to a preemption.
"""

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rtj_api.heartbeat import CommitRef, Heartbeat, Position, TrainerPhase
from rtj_api.names import ANNOTATION_HEARTBEAT, LABEL_ATTEMPT, LABEL_JOB

from rtj_bench.api import JSON_PATCH, Api, ApiError, Manifest

BEAT_SECONDS = 5.0
STEPS_PER_BEAT = 50
STEPS_PER_ATTEMPT = 1000


@dataclass
class Trainer:
    """One pod that runs."""

    namespace: str
    job: str
    uid: str
    attempt: int
    step: int = 0


class Trainers:
    """Beats for every pod of ours that runs."""

    def __init__(self, api: Api, *, still: bool) -> None:
        self._api = api
        self._still = still
        self._beating: dict[str, asyncio.Task[None]] = {}

    async def play(self) -> None:
        """Play for ever."""
        pods, version = await self._api.list("/api/v1/pods")
        # Those that run already do not all begin in the same moment.
        for number, pod in enumerate(pods):
            self._see("ADDED", pod, delay=BEAT_SECONDS * number / len(pods))
        async for kind, pod in self._api.watch("/api/v1/pods", version):
            self._see(kind, pod, delay=0.0)

    def _see(self, kind: str, pod: Manifest, delay: float) -> None:
        meta, status = pod["metadata"], pod.get("status", {})
        labels = meta.get("labels", {})
        if LABEL_JOB not in labels:
            return
        uid, runs = meta["uid"], status.get("phase") == "Running" and kind != "DELETED"
        if runs and uid not in self._beating:
            attempt = int(labels[LABEL_ATTEMPT])
            trainer = Trainer(meta["namespace"], labels[LABEL_JOB], uid, attempt)
            self._beating[uid] = asyncio.create_task(self._train(trainer, delay))
        elif not runs and (task := self._beating.get(uid)):
            task.cancel()
            if kind == "DELETED":
                del self._beating[uid]

    async def _train(self, trainer: Trainer, delay: float) -> None:
        await asyncio.sleep(delay)
        path = f"/apis/coordination.k8s.io/v1/namespaces/{trainer.namespace}/leases/{trainer.job}"
        began, held = datetime.now(UTC), False
        while True:
            # A pod that goes while its beat is on its way is nothing to stop for.
            with suppress(ApiError, OSError):
                await (self._renew if held else self._take_over)(path, trainer, began)
                held = True
            await asyncio.sleep(BEAT_SECONDS)
            if not self._still:
                trainer.step += STEPS_PER_BEAT

    async def _take_over(self, path: str, trainer: Trainer, began: datetime) -> None:
        """As `rtj_trainer.lease` does: write all of it once."""
        lease = await self._api.request("GET", path)
        lease["spec"] = {
            "holderIdentity": trainer.uid,
            "leaseTransitions": trainer.attempt,
            "renewTime": _now(),
        }
        lease["metadata"]["annotations"] = {ANNOTATION_HEARTBEAT: _beat(trainer, began)}
        lease["metadata"]["managedFields"] = [{}]
        await self._api.request("PUT", path, lease)

    async def _renew(self, path: str, trainer: Trainer, began: datetime) -> None:
        annotation = ANNOTATION_HEARTBEAT.replace("/", "~1")
        told = f"/metadata/annotations/{annotation}"
        patch = [
            {"op": "test", "path": "/spec/holderIdentity", "value": trainer.uid},
            {"op": "add", "path": "/spec/renewTime", "value": _now()},
            {"op": "add", "path": told, "value": _beat(trainer, began)},
        ]
        await self._api.request("PATCH", path, patch, JSON_PATCH)


def _beat(trainer: Trainer, began: datetime) -> str:
    base = trainer.attempt * STEPS_PER_ATTEMPT
    step = base + min(trainer.step, STEPS_PER_ATTEMPT - 1)
    before = trainer.attempt - 1
    beat = Heartbeat(
        attempt=trainer.attempt,
        phase=TrainerPhase.TRAINING,
        position=Position(step=step, samples=32 * step, total_steps=1_000_000),
        started_from=_commit(before, began) if before else None,
        commit=_commit(trainer.attempt, began),
        strategy="index",
        steps_per_second=STEPS_PER_BEAT / BEAT_SECONDS,
    )
    return beat.model_dump_json(by_alias=True, exclude_none=True)


def _commit(attempt: int, time: datetime) -> CommitRef:
    """Return what that attempt committed at its start, and no more."""
    step = attempt * STEPS_PER_ATTEMPT
    return CommitRef(id=f"{step:012}-{attempt:06}", step=step, time=time)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _main(api: Api, *options: str) -> None:
    async with api:
        await Trainers(api, still="--still" in options).play()


if __name__ == "__main__":
    url, pki, token, *options = sys.argv[1:]
    asyncio.run(_main(Api(url, Path(pki), Path(token).read_text()), *options))
