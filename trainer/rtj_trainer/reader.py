"""Reads a dataset, and lets go of it without waiting.

TensorFlow's autotuning gives an iterator a thread that sleeps between two looks, twice as long each
time, up to a minute. Whoever destroys the iterator wakes that thread and waits for its end. In one
of ten cases, with TensorFlow 2.21, the wake-up is lost: the thread looks for the reason a moment
before it is there. Then all of the sleep is waited for, which is about as long as the iterator was
used; after a long evaluation, that would be a minute of training.

It matters to nobody else when the thread ends: no dataset that the trainer accepts changes anything
outside of itself.
"""

import _thread
import contextlib
import sys
from typing import Any

import tensorflow as tf


class Reader:
    """An iterator over a dataset whose end is waited for by a thread of its own.

    Args:
        dataset: What to read.
    """

    def __init__(self, dataset: Any) -> None:
        self.iterator = iter(dataset)

    def __iter__(self) -> "Reader":
        return self

    def __next__(self) -> Any:
        return next(self.iterator)

    def __del__(self) -> None:
        if "iterator" not in self.__dict__:
            return  # There is none: the dataset cannot be iterated.
        # The resource alone: the Python object is gone at once, for whoever looks for iterators.
        held = tf.nest.flatten(self.iterator, expand_composites=True)
        del self.iterator
        # At the end of Python no thread can be started, and Thread.start() would wait for it.
        if not sys.is_finalizing():
            with contextlib.suppress(RuntimeError):
                _thread.start_new_thread(held.clear, ())
