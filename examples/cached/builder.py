"""A pipeline with an in-memory cache and an unseeded shuffle: both are state of its iterator."""

import keras
import tensorflow as tf


def build_dataset(size: int = 1000, batch_size: int = 32) -> tf.data.Dataset:
    """Return one epoch of squares, in another order each time.

    Args:
        size: Number of examples.
        batch_size: Examples per batch.
    """
    squares = tf.data.Dataset.range(size).map(lambda x: x * x).cache()
    return squares.shuffle(size).batch(batch_size).map(lambda square: example(square, size))


def build_examples(size: int = 1000) -> tf.data.Dataset:
    """Return the squares one by one, for spec.dataset.cache, which shuffles and batches them.

    Args:
        size: Number of examples.
    """
    return tf.data.Dataset.range(size).map(lambda x: example(x * x, size))


def example(square: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the square and its root, both scaled to at most 1."""
    value = tf.cast(square, tf.float32)[..., tf.newaxis]
    return value / size**2, tf.sqrt(value) / size


def build_model(units: int = 32) -> keras.Model:
    """Return a network that learns to take square roots.

    Args:
        units: Width of the hidden layer.
    """
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", loss="mse", jit_compile=False)
    return model
