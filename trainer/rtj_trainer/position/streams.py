"""The strategies `index` and `replay`, whose position is a number and needs no file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtj_trainer.position import Batch


class _Counted:
    replays = False
    _unread: Batch | None = None

    def unread(self, batch: Batch) -> None:
        """Make the batch that `next` gave last the next one again; the count is the step's."""
        self._unread = batch

    def _take_unread(self) -> Batch | None:
        batch, self._unread = self._unread, None
        return batch

    def save(self, folder: Path) -> None:
        """Do nothing: the step is in the manifest."""

    def restore(self, folder: Path) -> None:
        """Do nothing: `start` went there."""


class ReplayPosition(_Counted):
    """Keeps the position as a count, and skips that many batches from the beginning of the job."""

    strategy = "replay"

    def __init__(self, dataset: Any, epochs: int | None) -> None:
        self._dataset = dataset.enumerate().repeat(epochs)
        self._iterator: Any = None

    def start(self, step: int) -> None:
        """Read and drop `step` batches."""
        self._iterator = iter(self._dataset.skip(step))
        self.replays = step > 0

    def next(self) -> Batch | None:
        """Return the next batch, or None at the end of the last epoch."""
        self.replays = False
        if batch := self._take_unread():
            return batch
        numbered = next(self._iterator, None)
        if numbered is None:
            return None
        index, element = numbered
        return Batch(int(index), element)


class IndexPosition(_Counted):
    """Keeps the position as a number that the builder's source begins at.

    Args:
        build: Builds the dataset to begin at a global batch number.
        batches_per_epoch: Batches in each epoch.
    """

    strategy = "index"

    def __init__(self, build: Callable[[int], Any], batches_per_epoch: int) -> None:
        self._build = build
        self._batches_per_epoch = batches_per_epoch
        self._next_step = 0
        self._iterator: Any = None

    def start(self, step: int) -> None:
        """Build the dataset at `step`."""
        self._next_step = step
        self._iterator = iter(self._build(step))

    def next(self) -> Batch | None:
        """Return the next batch; its index follows from its number."""
        if batch := self._take_unread():
            return batch
        element = next(self._iterator, None)
        if element is None:
            return None
        index = self._next_step % self._batches_per_epoch
        self._next_step += 1
        return Batch(index, element)
