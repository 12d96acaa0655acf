"""`Dataset.skip` to the position, over the same pipeline as the iterator's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtj_bench_trainer.peers import records
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.places import act_on


class Skip:
    """A pipeline whose position is a count."""

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
        """Keep nothing: who skips has the count from elsewhere."""
        return 0

    def restore(self, folder: Path, batches: int) -> None:
        """Read and drop so many batches."""
        self._iterator = iter(self._dataset.skip(batches))


def act(act: str, folder: str, percent: int | Sequence[int]) -> dict[str, Any]:
    """Answer a question of the stage `resume`."""
    return act_on(Skip(folder), act, folder, percent)


if __name__ == "__main__":
    answer(act)
