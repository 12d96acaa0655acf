"""`Dataset.skip` to the position, over the same pipeline as the iterator's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.places import act_on
from rtj_bench_trainer.peers.records import Reading


class Skip(Reading):
    """A pipeline whose position is a count."""

    def save(self, folder: Path) -> int:
        """Keep nothing: who skips has the count from elsewhere."""
        return 0

    def restore(self, folder: Path, batches: int) -> None:
        """Read and drop so many batches."""
        self.iterator = iter(self.dataset.skip(batches))


def act(act: str, folder: str, percent: int | Sequence[int]) -> dict[str, Any]:
    """Answer a question of the stage `resume`."""
    return act_on(Skip(folder), act, folder, percent)


if __name__ == "__main__":
    answer(act)
