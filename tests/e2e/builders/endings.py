"""Builders that end their process, each in its own way; `spec.builder.datasetFunction` names one.

`trains` goes on until somebody ends it.
"""

import os
import time

import keras
import tensorflow as tf

MORE_THAN_ITS_LIMIT = 4 << 30
EPOCH_SECONDS = 0.3


def trains() -> tf.data.Dataset:
    """Return one short epoch of `(x [batch, 1], y [batch, 1])`."""
    numbers = tf.data.Dataset.range(20).map(lambda i: tf.cast(i, tf.float32)[tf.newaxis])
    return numbers.map(lambda x: (x, 2 * x)).batch(10)


def leaves() -> None:
    """End the process before the trainer can say anything of it."""
    os._exit(0)


def allocates() -> bytes:
    """Take more memory than the container may have."""
    return b"x" * MORE_THAN_ITS_LIMIT


def forgets() -> tf.data.Dataset:
    """Return a pipeline that asks Python, whose state nobody can save."""
    numbers = tf.data.Dataset.range(20)
    return numbers.map(lambda i: tf.numpy_function(lambda x: x, [i], tf.int64))


class Unhurried(keras.metrics.MeanSquaredError):
    """A metric that takes its time at the beginning of an epoch."""

    def reset_state(self) -> None:
        """Wait, so that an idle job does not keep a processor busy."""
        time.sleep(EPOCH_SECONDS)
        super().reset_state()


def build_model() -> keras.Model:
    """Return a compiled model with two weights."""
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("adam", loss="mse", metrics=[Unhurried()], jit_compile=False)
    return model
