"""Whoever lets go of a reader goes on at once, whatever TensorFlow still has to end."""

import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest
import tensorflow as tf
from rtj_trainer.reader import Reader

pytestmark = pytest.mark.unit


class Dataset:
    """A dataset whose iterator says in which thread it came to its end."""

    def __init__(self) -> None:
        self.ended_in: queue.Queue[int] = queue.Queue()

    def __iter__(self) -> Iterator[int]:
        return _Numbers(self.ended_in)


class _Numbers(Iterator[int]):
    def __init__(self, ended_in: "queue.Queue[int]") -> None:
        self._ended_in = ended_in

    def __next__(self) -> int:
        return 7

    def __del__(self) -> None:
        self._ended_in.put(threading.get_ident())


def test_the_end_of_an_iterator_is_waited_for_by_another_thread() -> None:
    dataset = Dataset()
    reader = Reader(dataset)
    assert next(reader) == 7
    del reader
    assert dataset.ended_in.get(timeout=60) != threading.get_ident()


def test_whoever_looks_for_iterators_finds_none_that_was_let_go() -> None:
    reader = Reader(tf.data.Dataset.range(3))
    left = weakref.ref(reader.iterator)
    assert [int(number) for number in reader] == [0, 1, 2]
    del reader
    assert left() is None


def test_what_cannot_be_read_is_said_once() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        Reader(7)


def test_a_program_that_ends_with_a_reader_does_end() -> None:
    program = (
        "import tensorflow as tf\n"
        "from rtj_trainer.reader import Reader\n"
        "left = Reader(tf.data.Dataset.range(3))\n"
        "next(left)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
