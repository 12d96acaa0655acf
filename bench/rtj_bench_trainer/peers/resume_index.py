"""Our strategy `index`, through the trainer's own `PipelineFactory` and `Position`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rtj_trainer.data import arrays, batches
from rtj_trainer.environment import prepare_tensorflow
from rtj_trainer.pipeline import PipelineFactory

from rtj_bench_trainer.peers import rows
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.places import act_on


def build_dataset(folder: str) -> Any:
    """Return what a user's builder would."""
    source = arrays(str(Path(folder) / rows.FILE))
    return batches(source, rows.BATCH).prefetch(tf.data.AUTOTUNE)


class Index:
    """A pipeline whose position is the number of the batch."""

    def __init__(self, folder: str) -> None:
        root = Path(folder)
        factory = PipelineFactory(
            lambda: build_dataset(folder), rows.SEED, 1, None, root / "indices"
        )
        self._position = factory.pipeline(False, root / "scratch").stream.position
        self._taken = 0
        self._started = False

    def next(self) -> np.ndarray:
        """Return the next batch."""
        if not self._started:
            self.restore(Path(), 0)
        batch = self._position.next()
        if batch is None:
            raise AssertionError("the epoch is over")
        self._taken += 1
        return np.asarray(batch.element.data)

    def advance(self, batches: int) -> None:
        """Take so many more batches."""
        for _ in range(batches):
            self.next()

    def save(self, folder: Path) -> int:
        """Keep the position, and count what the manifest says of it."""
        self._position.save(folder)
        in_manifest = {
            "step": self._taken,
            "epoch": 0,
            "stepInEpoch": self._taken,
            "samples": self._taken * rows.BATCH,
        }
        files = sum(path.stat().st_size for path in folder.iterdir())
        return files + len(json.dumps(in_manifest))

    def restore(self, folder: Path, batches: int) -> None:
        """Go to a batch."""
        self._position.start(batches)
        self._position.restore(folder)
        self._started = True


def act(act: str, folder: str, percent: int | Sequence[int]) -> dict[str, Any]:
    """Answer a question of the stage `resume`."""
    prepare_tensorflow({})
    return act_on(Index(folder), act, folder, percent)


if __name__ == "__main__":
    answer(act)
