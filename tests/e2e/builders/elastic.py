"""The builder beside it, with its numbers in an order that batches of any size can go through."""

import tensorflow as tf
from builder import build_model, tagged
from resting import build_callbacks
from rtj_trainer.data import indexed

__all__ = ["build_callbacks", "build_dataset", "build_model"]


def build_dataset(size: int, batch_size: int) -> tf.data.Dataset:
    """Return one epoch of the numbers below `size`, each its own id.

    Args:
        size: Number of examples.
        batch_size: Examples per batch.
    """
    return indexed(size, batch_size).map(lambda numbers: tagged(numbers, size))
