"""The strategies `index` and `replay`, whose position is a number and needs no file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from rtj_trainer import batches
from rtj_trainer.commits.manifest import EpochSize
from rtj_trainer.data import IndexedSource
from rtj_trainer.position import Batch
from rtj_trainer.reader import Reader

_COMPARED = 8
"""Batches of an attempt by which it is known whether ids are places: each takes a moment."""


class _Counted:
    replays = False
    epoch_size: EpochSize | None = None
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
        self._reader: Any = None

    def start(self, step: int) -> None:
        """Read and drop `step` batches."""
        self._reader = Reader(self._dataset.skip(step))
        self.replays = step > 0

    def next(self) -> Batch | None:
        """Return the next batch, or None at the end of the last epoch."""
        self.replays = False
        if batch := self._take_unread():
            return batch
        numbered = next(self._reader, None)
        if numbered is None:
            return None
        index, element = numbered
        return Batch(int(index), element)


class IndexPosition(_Counted):
    """Keeps the position as a number that the builder's source begins at.

    Args:
        build: Builds the dataset to begin at a global batch number.
        source: What it makes the batches of.
        seed: The job's.
    """

    strategy = "index"

    def __init__(self, build: Callable[[int], Any], source: IndexedSource, seed: int) -> None:
        self._build = build
        self._source = source
        self._seed = seed
        self._left_to_compare = _COMPARED
        self._next_step = 0
        self._reader: Any = None

    def start(self, step: int) -> None:
        """Build the dataset at `step`."""
        self._next_step = step
        self._reader = Reader(self._build(step))

    def next(self) -> Batch | None:
        """Return the next batch; its index follows from its number."""
        if batch := self._take_unread():
            return batch
        element = next(self._reader, None)
        if element is None:
            return None
        if self._left_to_compare:
            self._compare(element)
        index = self._source.cutting.index(self._next_step)
        self._next_step += 1
        return Batch(index, element)

    def _compare(self, element: Any) -> None:
        """Find out whether the ids are the places: a builder may give any that it likes."""
        self._left_to_compare -= 1
        # As in the dataset: of Python's numbers TensorFlow would make int32.
        number = tf.constant(self._next_step, tf.int64)
        places = self._source.places(number, self._seed).numpy().tolist()
        same = batches.ids_of(element) == tuple(places)
        self.epoch_size = EpochSize(
            examples=self._source.cutting.size,
            dropped=self._source.cutting.dropped_per_epoch,
            ids_are_places=same and (self.epoch_size is None or self.epoch_size.ids_are_places),
        )
