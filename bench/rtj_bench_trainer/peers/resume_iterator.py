"""A tf.data iterator in a `tf.train.Checkpoint`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.places import act_on
from rtj_bench_trainer.peers.records import Reading


class Iterator(Reading):
    """A pipeline whose position is the saved iterator."""

    def save(self, folder: Path) -> int:
        """Write the iterator."""
        tf.train.Checkpoint(iterator=self.iterator).write(str(folder / "iterator"))
        return sum(path.stat().st_size for path in folder.iterdir())

    def restore(self, folder: Path, batches: int) -> None:
        """Read the iterator back."""
        self.iterator = iter(self.dataset)
        saved = tf.train.Checkpoint(iterator=self.iterator).read(str(folder / "iterator"))
        saved.assert_consumed()


def act(act: str, folder: str, percent: int | Sequence[int]) -> dict[str, Any]:
    """Answer a question of the stage `resume`."""
    return act_on(Iterator(folder), act, folder, percent)


if __name__ == "__main__":
    answer(act)
