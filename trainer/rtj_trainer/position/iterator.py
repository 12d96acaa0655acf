"""The strategy `iterator`: the position is the saved state of the tf.data iterator.

A shuffle draws the order of each epoch from a generator of its dataset, and saves that generator's
place with its own iterator. That iterator is dropped with its last element, so a save between there
and the first read of the next epoch, which prefetching spreads over several batches, holds no place
at all: restored, the next epochs get the orders of early ones, without an error. So a save is only
kept if it holds the place of every shuffle. Until it does, batches are read ahead; they are saved
beside the iterator and given out first. If no save in a whole epoch does (a small dataset that is
shuffled twice), nothing is saved, and a restart reads again what was before the position.
"""

import mmap
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from rtj_trainer import batches
from rtj_trainer.commits.manifest import EpochSize
from rtj_trainer.position import Batch

_PREFIX = "iterator"
_AHEAD = "ahead.tfrecord"
_PLACE = b"epoch_num_random_samples"
"""Key of a generator's place, once for each live iterator that draws from one."""


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
        self._iterator: Any = None
        self._ahead: deque[Any] = deque()
        self._step = 0
        self._never_whole = False
        self.replays = False

    def start(self, step: int) -> None:
        """Begin at the beginning; `restore` goes to `step`.

        The iterator is made when it is needed, and only once: making it draws from the generators.
        """
        self._step = step

    def next(self) -> Batch | None:
        """Return the next batch, or None at the end of the last epoch."""
        self.replays = False
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

        Raises:
            OSError: they cannot be written.
            tf.errors.OpError: the next batch cannot be read; training cannot go on either.
        """
        if self._never_whole:
            return
        self._never_whole = not self._write_whole(folder / _PREFIX)
        if self._never_whole:
            _remove(folder)
        elif self._ahead:
            with _writing(folder):
                _write_elements(folder / _AHEAD, self._ahead)

    def restore(self, folder: Path) -> None:
        """Read back what `save` wrote; if that was nothing, skip what came before the position.

        Raises:
            AssertionError: the iterator is not in the files.
            tf.errors.OpError: the iterator does not fit its saved state.
        """
        if not any(folder.glob(f"{_PREFIX}.*")):
            self._never_whole = self.replays = True
            self._iterator = iter(self._dataset.skip(self._step))
            return
        self._checkpoint().read(str(folder / _PREFIX)).assert_consumed()
        self._ahead = deque(_read_elements(folder / _AHEAD, self._dataset.element_spec))

    def _source(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._dataset)
        return self._iterator

    def _checkpoint(self) -> Any:
        return tf.train.Checkpoint(iterator=self._source())

    def _write_whole(self, prefix: Path) -> bool:
        """Write the iterator with every place in it; return False if a whole epoch has none."""
        self._write(prefix)
        while not self._is_whole(prefix):
            numbered = next(self._source(), None)
            if numbered is None:
                return True  # At the end of the last epoch: no shuffle will be asked again.
            self._ahead.append(numbered)
            if sum(int(index) == 0 for index, _ in self._ahead) > 1:
                return False
            self._write(prefix)
        return True

    def _write(self, prefix: Path) -> None:
        with _writing(prefix.parent):
            self._checkpoint().write(str(prefix))

    def _is_whole(self, prefix: Path) -> bool:
        files = prefix.parent.glob(f"{prefix.name}.data-*")
        return self._generators == 0 or sum(map(_count_places, files)) >= self._generators


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
