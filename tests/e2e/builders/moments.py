"""A job whose every stage lasts long enough to be hit: a heavy state, a rest before each epoch.

Dropout and a shuffle make it sensitive: a lost seed or a misplaced example changes the weights.
"""

import time
from pathlib import Path

import keras
import tensorflow as tf

IN_A_POD = Path("/var/lib/rtj").is_dir()
EPOCH_SECONDS = 4.0 if IN_A_POD else 0.0
"""Time enough for a dead node to come back, before the job that went on elsewhere has ended."""


def build_dataset(examples: int, batch_size: int) -> tf.data.Dataset:
    """Return one epoch of `(x [batch, 8], y [batch, 1])`, in an order that differs by epoch."""

    def example(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.sin(tf.cast(i, tf.float32) * tf.range(1.0, 9.0))
        return x, tf.reduce_sum(x, keepdims=True)

    return tf.data.Dataset.range(examples).shuffle(examples).map(example).batch(batch_size)


class Unhurried(keras.metrics.MeanAbsoluteError):
    """A metric that takes its time at the beginning of an epoch."""

    def reset_state(self) -> None:
        """Wait."""
        time.sleep(EPOCH_SECONDS)
        super().reset_state()


def build_model(width: int, start_seconds: float) -> keras.Model:
    """Return a compiled model with about `10 * width` weights, after `start_seconds`."""
    time.sleep(start_seconds)
    model = keras.Sequential(
        [
            keras.Input([8]),
            keras.layers.Dense(width, activation="tanh"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss="mse",
        metrics=[Unhurried()],
        jit_compile=False,
    )
    return model
