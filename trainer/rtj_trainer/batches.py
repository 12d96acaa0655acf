"""Reads a batch: what is trained on, how many examples it has, and what the ledger says of it."""

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_trainer.data import Tagged


def training_data(element: Any) -> Any:
    """Return what the model is trained on."""
    return element.data if isinstance(element, Tagged) else element


def count_examples(element: Any) -> int:
    """Return the length of the batch; an element without dimensions is one example."""
    first = tf.nest.flatten(element)[0]  # A ragged or sparse tensor has fewer or more values.
    return int(first.shape[0]) if first.shape.rank else 1


def ids_of(element: Any) -> tuple[int | str, ...] | None:
    """Return the ids of the examples, or None if the pipeline does not tag its batches."""
    if not isinstance(element, Tagged):
        return None
    values = np.atleast_1d(element.ids.numpy()).tolist()
    return tuple(item.decode() if isinstance(item, bytes) else item for item in values)


def sha256_of(element: Any) -> str:
    """Return a digest of types, shapes and values of all tensors in an element."""
    digest = hashlib.sha256()
    for tensor in tf.nest.flatten(element, expand_composites=True):
        # As an array of bytes, a single string would lose the zero bytes at its end.
        value = np.asarray(tensor.numpy(), object if tensor.dtype == tf.string else None)
        digest.update(f"{tensor.dtype.name} {value.shape}\n".encode())
        if value.dtype == object:
            for item in value.ravel():
                digest.update(f"{len(item)} ".encode() + item)
        else:
            digest.update(value.tobytes())
    return digest.hexdigest()
