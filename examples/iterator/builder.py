"""The smallest pipeline: numbers in order, in batches. Its position is a tf.data iterator."""

import keras
import tensorflow as tf
from rtj_trainer.data import Tagged


def build_dataset(size: int = 100, batch_size: int = 10) -> tf.data.Dataset:
    """Return one epoch of the numbers below `size`, each its own id.

    Args:
        size: Number of examples.
        batch_size: Examples per batch.
    """
    return tf.data.Dataset.range(size).batch(batch_size).map(lambda x: tagged(x, size))


def tagged(numbers: tf.Tensor, size: int) -> Tagged:
    """Return a batch of numbers between 0 and 1 and their doubles, with the numbers as ids."""
    x = tf.cast(numbers, tf.float32)[:, tf.newaxis] / size
    return Tagged(numbers, (x, 2 * x))


def build_model() -> keras.Model:
    """Return a network that learns to double a number."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dropout(0.1), keras.layers.Dense(1)])
    model.compile("adam", loss="mse", jit_compile=False)
    return model
