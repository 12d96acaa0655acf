"""A job whose every stage lasts long enough to be hit: a heavy state, short epochs.

Dropout and a shuffle make it sensitive: a lost seed or a misplaced example changes the weights.
"""

import time

import keras
import tensorflow as tf


def build_dataset(examples: int, batch_size: int) -> tf.data.Dataset:
    """Return one epoch of `(x [batch, 8], y [batch, 1])`, in an order that differs by epoch."""

    def example(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.sin(tf.cast(i, tf.float32) * tf.range(1.0, 9.0))
        return x, tf.reduce_sum(x, keepdims=True)

    return tf.data.Dataset.range(examples).shuffle(examples).map(example).batch(batch_size)


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
        optimizer=keras.optimizers.Adam(1e-3), loss="mse", metrics=["mae"], jit_compile=False
    )
    return model
