"""Batches of indices whose position is a number, and a way to name examples.

A builder that starts from `indexed` can be resumed at any step in constant time, with nothing to
save: the order of the examples is a function of the job's seed and the epoch, not the state of a
shuffle buffer. The functions also work outside of a job, where they start at the beginning.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from rtj_trainer.cutting import Cutting


class Tagged(NamedTuple):
    """A batch with the ids of its examples, for the ledger; the model is trained on `data`.

    `ids` is a tensor of shape [batch], of an integer type or string.
    """

    ids: Any
    data: Any


@dataclass(frozen=True)
class IndexedSource:
    """One call of `indexed`, with the batches that the job has."""

    cutting: Cutting
    shuffle: bool

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one epoch, the last short one counted unless it is dropped."""
        return self.cutting.batches_per_epoch

    def places(self, number: Any, seed: int) -> Any:
        """Return the places of the examples in a batch, shape [batch], int64.

        Args:
            number: Of the batch, over all epochs; not before the last change of the batch size.
            seed: The job's.
        """
        cutting = self.cutting
        epoch, first = self._beginning(number)
        last = tf.minimum(first + cutting.batch_size, cutting.size)
        positions = tf.range(first, last, dtype=tf.int64)
        positions = tf.ensure_shape(positions, [cutting.batch_size if cutting.is_even else None])
        if not self.shuffle:
            return positions
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        return tf.random.experimental.index_shuffle(positions, key, cutting.size - 1)

    def _beginning(self, number: Any) -> tuple[Any, Any]:
        """Return the epoch of a batch, and how many examples of it come before."""
        size, regular = self.cutting.batch_size, self.batches_per_epoch
        cut = self.cutting.cuts[-1]
        if cut.step == 0:  # As it was before sizes could change: commits hold a hash of this graph.
            epoch, batch = number // regular, number % regular
            return epoch, batch * size
        beyond = tf.convert_to_tensor(number, tf.int64) - cut.step
        later = beyond - self.cutting.left_at_cut
        in_cut = later < 0
        epoch = tf.where(in_cut, tf.constant(cut.epoch, tf.int64), cut.epoch + 1 + later // regular)
        return epoch, tf.where(in_cut, cut.taken + beyond * size, later % regular * size)


@dataclass
class IndexedContext:
    """Tells `indexed` where to start, and learns what was asked of it."""

    seed: int
    start: int = 0
    """Global number of the first batch, over all epochs."""
    stop: int | None = None
    """Global number of the batch after the last; None for the end of the first epoch."""
    cutting: Cutting | None = None
    """The batches to make, whatever size is asked for; None for those that are."""
    store: Path | None = None
    """Folder for what is found out about data files, kept for later jobs; None for memory only."""
    sources: list[IndexedSource] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)
    """What `rtj_trainer.data` reads: name of a file or array -> what it holds, for people too."""
    sampled: bool = False
    """Whether `contents` knows some of the examples of a source only."""


_context: ContextVar[IndexedContext | None] = ContextVar("indexed_context", default=None)


@contextmanager
def indexed_context(context: IndexedContext) -> Iterator[IndexedContext]:
    """Make `context` the one that `indexed` reads while a builder runs."""
    token = _context.set(context)
    try:
        yield context
    finally:
        _context.reset(token)


def current_context() -> IndexedContext:
    """Return the context that a builder runs in, or that of a program outside of a job."""
    return _context.get() or IndexedContext(seed=0)


def indexed(
    size: int, batch_size: int, shuffle: bool = True, drop_remainder: bool = False
) -> tf.data.Dataset:
    """Return a dataset of batches of indices in [0, size), each index once per epoch.

    Follow it with `map` (say, `tf.gather` from arrays, or reading records by offset) and
    `prefetch` only: batch k of the result must be made from batch k of this.

    The order of an epoch is the pseudorandom permutation of `tf.random.experimental.index_shuffle`
    keyed with [job seed, epoch]; with `shuffle=False` it is 0, 1, 2, …

    Args:
        size: Number of examples in one epoch, at least 1.
        batch_size: Indices per batch, at least 1; the last batch of an epoch may be shorter.
        shuffle: Another order in every epoch.
        drop_remainder: Drop the last batch of an epoch if it is shorter.

    Returns:
        Elements of shape [batch], int64.

    Raises:
        ValueError: an argument is out of range, or an epoch would have no batch.
    """
    return _batches(size, batch_size, shuffle, drop_remainder, lambda number, places: places)


def numbered_batches(
    size: int, batch_size: int, shuffle: bool, drop_remainder: bool
) -> tf.data.Dataset:
    """Return what `indexed` does, each batch with its number over all epochs: `(number, batch)`.

    Raises:
        ValueError: as `indexed`.
    """
    return _batches(size, batch_size, shuffle, drop_remainder, lambda *both: both)


def _batches(
    size: int,
    batch_size: int,
    shuffle: bool,
    drop_remainder: bool,
    element: Callable[[Any, Any], Any],
) -> tf.data.Dataset:
    if size < 1 or batch_size < 1:
        raise ValueError(f"size and batch_size must be at least 1, not {size} and {batch_size}")
    context = current_context()
    cutting = context.cutting or Cutting.even(int(size), int(batch_size), bool(drop_remainder))
    source = IndexedSource(cutting, bool(shuffle))
    if source.batches_per_epoch == 0:
        raise ValueError(
            f"drop_remainder drops the only batch: size {size} < batch_size {batch_size}"
        )
    context.sources.append(source)
    stop = source.batches_per_epoch if context.stop is None else context.stop
    seed = context.seed

    def batch_of_indices(number: Any) -> Any:
        return element(number, source.places(number, seed))

    # There is no control flow of Python's to convert, and looking for it takes long.
    unconverted = tf.autograph.experimental.do_not_convert(batch_of_indices)
    return tf.data.Dataset.range(context.start, stop).map(unconverted)
