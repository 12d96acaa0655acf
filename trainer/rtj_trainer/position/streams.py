"""The three strategies. Each is an endless tape of (index in epoch, element), cut at the end."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from rtj_trainer.position import Batch


def _deterministic(dataset: Any) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    return dataset.with_options(options)


class _Stream:
    strategy: str

    def __init__(self) -> None:
        self._iterator: Any = None

    def next(self) -> Batch | None:
        try:
            index, element = next(self._iterator)
        except StopIteration:
            return None
        return Batch(int(index), element)

    def trackables(self) -> Mapping[str, Any]:
        return {}


class IteratorPosition(_Stream):
    """Keeps the position as the state of the tf.data iterator.

    Args:
        dataset: One epoch.
        epochs: How often to repeat it; None for ever. An iterator that reads ahead to its end
            cannot be made longer afterwards, so where the length is known the loop ends it.
    """

    strategy = "iterator"

    def __init__(self, dataset: Any, epochs: int | None) -> None:
        super().__init__()
        self._dataset = _deterministic(dataset).enumerate().repeat(epochs)

    def start(self, step: int) -> None:
        """Make an iterator at the beginning; the restore of `trackables` moves it to `step`."""
        self._iterator = iter(self._dataset)

    def trackables(self) -> Mapping[str, Any]:
        """Return the iterator."""
        return {"iterator": self._iterator}


class ReplayPosition(_Stream):
    """Keeps the position as a count, and skips that many batches from the beginning of the job."""

    strategy = "replay"

    def __init__(self, dataset: Any, epochs: int | None) -> None:
        super().__init__()
        self._dataset = _deterministic(dataset).enumerate().repeat(epochs)

    def start(self, step: int) -> None:
        """Read and drop `step` batches."""
        self._iterator = iter(self._dataset.skip(step))


class IndexPosition(_Stream):
    """Keeps the position as a number that the builder's source begins at.

    Args:
        build: Builds the dataset to begin at a global batch number.
        batches_per_epoch: Batches in each epoch.
    """

    strategy = "index"

    def __init__(self, build: Callable[[int], Any], batches_per_epoch: int) -> None:
        super().__init__()
        self._build = build
        self._batches_per_epoch = batches_per_epoch
        self._next_step = 0

    def start(self, step: int) -> None:
        """Build the dataset at `step`."""
        self._next_step = step
        self._iterator = iter(_deterministic(self._build(step)))

    def next(self) -> Batch | None:
        """Return the next batch; its index follows from its number."""
        try:
            element = next(self._iterator)
        except StopIteration:
            return None
        index = self._next_step % self._batches_per_epoch
        self._next_step += 1
        return Batch(index, element)
