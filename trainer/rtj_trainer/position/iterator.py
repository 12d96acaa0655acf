"""The strategy `iterator`: the position is the saved state of the tf.data iterator.

A shuffle draws the order of each epoch from a generator of its dataset, and saves that generator's
place with its own iterator. That iterator is dropped with its last element, so a save between there
and the first read of the next epoch, which prefetching spreads over several batches, holds no place
at all: restored, the next epochs get the orders of early ones, without an error. So a save is only
kept if it holds the place of every shuffle. Until it does, batches are read ahead; they are saved
beside the iterator and given out first.

A shuffle whose buffer holds much of an epoch lets go of a shuffle before it, as one of files, for
as long as it gives out what it holds: that may be thousands of batches. So no more is read ahead
than a commit may wait for. If none of that would do, nothing is saved, and a restart from there
reads again what was before the position.
"""

import logging
import mmap
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_trainer import batches
from rtj_trainer.commits.manifest import EpochSize
from rtj_trainer.position import Batch
from rtj_trainer.reader import Reader

_PREFIX = "iterator"
_AHEAD = "ahead.tfrecord"
_PLACE = b"epoch_num_random_samples"
"""Key of a generator's place, once for each live iterator that draws from one."""

_MOST_BATCHES = 256
_MOST_BYTES = 1 << 29
_MOST_SECONDS = 10.0
"""What may be read ahead, and how long, before training goes on without a saved iterator."""

log = logging.getLogger(__name__)


class IteratorPosition:
    """Keeps the position as the state of the tf.data iterator.

    Args:
        dataset: One epoch, deterministic.
        epochs: How often to repeat it; None for ever. An iterator that reads ahead to its end
            cannot be made longer afterwards, so where the length is known the loop ends it.
        generators: How many places a saved iterator must hold to be whole
            (`rtj_trainer.preflight.reshuffling.places`).
    """

    strategy = "iterator"
    epoch_size: EpochSize | None = None

    def __init__(self, dataset: Any, epochs: int | None, generators: int) -> None:
        self._dataset = dataset.enumerate().repeat(epochs)
        self._generators = generators
        self._reader: Reader | None = None
        self._ahead: deque[Any] = deque()
        self._step = 0
        self._to_skip = 0
        self._searches = True
        self.replays = False

    def start(self, step: int) -> None:
        """Begin at the beginning; `restore` goes to `step`.

        The iterator is made when it is needed, and only once: making it draws from the generators.
        """
        self._step = step

    def next(self) -> Batch | None:
        """Return the next batch, or None at the end of the last epoch."""
        self.replays = False
        self._skip()
        numbered = self._ahead.popleft() if self._ahead else next(self._source(), None)
        if numbered is None:
            return None
        index, element = numbered
        return Batch(int(index), element)

    def unread(self, batch: Batch) -> None:
        """Make the batch that `next` gave last the next one again."""
        self._ahead.appendleft((tf.constant(batch.index, tf.int64), batch.element))

    def save(self, folder: Path) -> None:
        """Write the iterator, and the batches that were read ahead of the position.

        Write nothing if the iterator holds every place at none of the next batches.

        Raises:
            OSError: they cannot be written.
            tf.errors.OpError: the next batch cannot be read; training cannot go on either.
        """
        if self._to_skip:
            return
        whole = self._write_whole(folder / _PREFIX)
        if not whole:
            _remove(folder)
        elif self._ahead:
            with _writing(folder):
                _write_elements(folder / _AHEAD, self._ahead)
        if self._searches and not whole:
            log.warning(
                "the iterator holds the place of every shuffle at none of the next %d batches, as "
                "where a shuffle() with a large buffer follows another, or list_files(); a restart "
                "from such a commit reads the data again up to it",
                len(self._ahead),
            )
        # A pause for each commit of a long stretch would add up.
        self._searches = whole

    def restore(self, folder: Path) -> None:
        """Read back what `save` wrote; if that was nothing, skip what came before the position.

        Raises:
            AssertionError: the iterator is not in the files.
            tf.errors.OpError: the iterator does not fit its saved state.
        """
        if not any(folder.glob(f"{_PREFIX}.*")):
            self._to_skip = self._step
            self.replays = True
            return
        self._checkpoint().read(str(folder / _PREFIX)).assert_consumed()
        self._ahead = deque(_read_elements(folder / _AHEAD, self._dataset.element_spec))

    def _skip(self) -> None:
        """Read and drop what is to be skipped.

        Not by `Dataset.skip`: the iterator of that dataset could not be restored into this one.
        """
        for _ in range(self._to_skip):
            next(self._source(), None)
        self._to_skip = 0

    def _source(self) -> Reader:
        if self._reader is None:
            self._reader = Reader(self._dataset)
        return self._reader

    def _checkpoint(self) -> Any:
        return tf.train.Checkpoint(iterator=self._source().iterator)

    def _write_whole(self, prefix: Path) -> bool:
        """Write the iterator with every place in it; return False if none of the next has them.

        A write may take as long as many batches, so there are ever fewer of them.
        """
        self._write(prefix)
        allowance = _Allowance(self._ahead)
        more = 1
        while not self._is_whole(prefix):
            if not self._searches or allowance.spent:
                return False
            ended = not self._read_ahead(more, allowance)
            self._write(prefix)
            if ended:
                return True  # At the end of the last epoch: no shuffle will be asked again.
            more = len(self._ahead)
        return True

    def _read_ahead(self, more: int, allowance: "_Allowance") -> bool:
        """Read some batches, or as many as may be; return False at the end of the last epoch."""
        for _ in range(more):
            numbered = next(self._source(), None)
            if numbered is None:
                return False
            self._ahead.append(numbered)
            allowance.take(numbered)
            if allowance.spent:
                break
        return True

    def _write(self, prefix: Path) -> None:
        with _writing(prefix.parent):
            self._checkpoint().write(str(prefix))

    def _is_whole(self, prefix: Path) -> bool:
        files = prefix.parent.glob(f"{prefix.name}.data-*")
        return self._generators == 0 or sum(map(_count_places, files)) >= self._generators


class _Allowance:
    """What may still be read ahead for one commit.

    Args:
        ahead: What is read ahead already.
    """

    def __init__(self, ahead: Iterable[Any]) -> None:
        self._until = time.monotonic() + _MOST_SECONDS
        self._batches, self._bytes = _MOST_BATCHES, _MOST_BYTES
        for element in ahead:
            self.take(element)

    def take(self, element: Any) -> None:
        """Count an element that was read."""
        self._batches -= 1
        self._bytes -= _size(element)

    @property
    def spent(self) -> bool:
        """Whether no more may be read."""
        return min(self._batches, self._bytes) <= 0 or time.monotonic() >= self._until


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"TensorFlow cannot write into {folder}: {error.message}") from error


def _count_places(file: Path) -> int:
    # Not read into memory: with a large shuffle buffer it has gigabytes.
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as content:
        return sum(1 for _ in re.finditer(re.escape(_PLACE), content))


def _size(element: Any) -> int:
    """Return how many bytes an element has, with a few more or less for texts."""
    arrays = (tensor.numpy() for tensor in batches.tensors_of(element))
    return sum(
        sum(map(len, np.ravel(array))) if array.dtype == object else array.nbytes
        for array in map(np.asarray, arrays)
    )


def _remove(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}.*"):
        path.unlink()


def _write_elements(path: Path, elements: Iterable[Any]) -> None:
    """Write the tensors of all elements, one record each."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for tensor in batches.tensors_of(list(elements)):
            writer.write(tf.io.serialize_tensor(tensor).numpy())


def _read_elements(path: Path, spec: Any) -> Iterable[Any]:
    """Yield the elements of a file, of which there need not be one."""
    if not path.exists():
        return
    kinds = tf.nest.flatten(spec, expand_composites=True)
    records = list(tf.data.TFRecordDataset(str(path)))
    for first in range(0, len(records), len(kinds)):
        tensors = [
            tf.io.parse_tensor(record, kind.dtype)
            for record, kind in zip(records[first:], kinds, strict=False)
        ]
        yield tf.nest.pack_sequence_as(spec, tensors, expand_composites=True)
