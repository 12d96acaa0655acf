"""Reads a batch: what is trained on, how many examples it has, and what the ledger says of it."""

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_trainer.data import Tagged
from rtj_trainer.preflight.refusal import refuse


def training_data(element: Any) -> Any:
    """Return what the model is trained on."""
    return element.data if isinstance(element, Tagged) else element


def tensors_of(element: Any) -> list[Any]:
    """Return all tensors in an element; a None, as of labels that there are not, is none."""
    found = tf.nest.flatten(element, expand_composites=True)
    return [tensor for tensor in found if tensor is not None]


def count_examples(element: Any) -> int:
    """Return the length of the batch; an element without dimensions is one example."""
    # Not `tensors_of`: a ragged or sparse tensor has fewer or more values.
    first = next(found for found in tf.nest.flatten(element) if found is not None)
    return int(first.shape[0]) if first.shape.rank else 1


def ids_of(element: Any) -> tuple[int | str, ...] | None:
    """Return the ids of the examples, or None if the pipeline does not tag its batches."""
    if not isinstance(element, Tagged):
        return None
    refuse_other_ids(element.ids)
    values = np.atleast_1d(element.ids.numpy()).tolist()
    return tuple(item.decode() if isinstance(item, bytes) else item for item in values)


def refuse_other_ids(ids: Any) -> None:
    """Refuse ids that name no examples one by one.

    Args:
        ids: Of a batch, or what is known of them: its spec.

    Raises:
        PermanentError: `PipelineNotResumable`.
    """
    if isinstance(ids, tf.Tensor | tf.TensorSpec) and ids.shape.rank in (None, 0, 1):
        return
    found = f"of shape {ids.shape}" if hasattr(ids, "shape") else type(ids).__name__
    problem = f"the ids of a Tagged batch are a tensor of shape [batch], not {found}"
    refuse([f"{problem}; write Tagged(tf.reshape(ids, [-1]), data)"])


def sha256_of(element: Any) -> str:
    """Return a digest of types, shapes and values of all tensors in an element."""
    digest = hashlib.sha256()
    for tensor in tensors_of(element):
        # As an array of bytes, a single string would lose the zero bytes at its end.
        value = np.asarray(tensor.numpy(), object if tensor.dtype == tf.string else None)
        digest.update(f"{tensor.dtype.name} {value.shape}\n".encode())
        if value.dtype == object:
            for item in value.ravel():
                digest.update(f"{len(item)} ".encode() + item)
        else:
            digest.update(value.tobytes())
    return digest.hexdigest()
