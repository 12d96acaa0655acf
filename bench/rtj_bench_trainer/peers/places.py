"""The two acts of a peer of the stage `resume`, over what differs between peers."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rtj_bench_trainer.peers import rows


class Pipeline(Protocol):
    """A freshly built pipeline over a folder's rows."""

    def next(self) -> Any:
        """Return the next batch: shape [BATCH, VALUES]."""

    def advance(self, batches: int) -> None:
        """Take so many more batches."""

    def save(self, folder: Path) -> int:
        """Keep the position in a new folder; return how many bytes it needs."""

    def restore(self, folder: Path, batches: int) -> None:
        """Go to the position that was kept there, after so many batches."""


def act_on(
    pipeline: Pipeline, act: str, folder: str, percent: int | Sequence[int]
) -> dict[str, Any]:
    """Prepare the places, or resume at one of them.

    Args:
        pipeline: Freshly built.
        act: `prepare` or `resume`.
        folder: Of the rows and the kept positions.
        percent: Of the epoch; all places in ascending order, or one.
    """
    if isinstance(percent, int):
        return _resume(pipeline, Path(folder), percent)
    if act != "prepare":
        raise ValueError(act)
    return _prepare(pipeline, Path(folder), percent)


def _prepare(pipeline: Pipeline, folder: Path, percents: Sequence[int]) -> dict[str, Any]:
    taken = 0
    sizes, digests = [], []
    for percent in percents:
        pipeline.advance(_batches(percent) - taken)
        place = _place(pipeline, folder, percent)
        place.mkdir()
        sizes.append(pipeline.save(place))
        digests.append(rows.digest(pipeline.next()))
        taken = _batches(percent) + 1
    return {"bytes": sizes, "digests": digests}


def _resume(pipeline: Pipeline, folder: Path, percent: int) -> dict[str, Any]:
    place = _place(pipeline, folder, percent)
    began = time.perf_counter()
    pipeline.restore(place, _batches(percent))
    batch = pipeline.next()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "digest": rows.digest(batch)}


def _batches(percent: int) -> int:
    return rows.BATCHES * percent // 100


def _place(pipeline: Pipeline, folder: Path, percent: int) -> Path:
    return folder / f"{type(pipeline).__name__}-{percent}"
