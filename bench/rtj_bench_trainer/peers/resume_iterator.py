"""A tf.data iterator in a `tf.train.Checkpoint`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_bench_trainer.peers import records
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.places import act_on


class Iterator:
    """A pipeline whose position is the saved iterator."""

    def __init__(self, folder: str) -> None:
        self._dataset = records.dataset(folder)
        self._iterator: Any = None

    def next(self) -> np.ndarray:
        """Return the next batch."""
        self._iterator = self._iterator or iter(self._dataset)
        return np.asarray(next(self._iterator))

    def advance(self, batches: int) -> None:
        """Take so many more batches."""
        for _ in range(batches):
            self.next()

    def save(self, folder: Path) -> int:
        """Write the iterator."""
        tf.train.Checkpoint(iterator=self._iterator).write(str(folder / "iterator"))
        return sum(path.stat().st_size for path in folder.iterdir())

    def restore(self, folder: Path, batches: int) -> None:
        """Read the iterator back."""
        self._iterator = iter(self._dataset)
        saved = tf.train.Checkpoint(iterator=self._iterator).read(str(folder / "iterator"))
        saved.assert_consumed()


def act(act: str, folder: str, percent: int | Sequence[int]) -> dict[str, Any]:
    """Answer a question of the stage `resume`."""
    return act_on(Iterator(folder), act, folder, percent)


if __name__ == "__main__":
    answer(act)
