"""One example as one record, whatever its structure, and a batch of records as tensors.

A record is `tf.io.serialize_tensor` of a vector of strings, each of which is `serialize_tensor` of
one tensor of the example: those of `tf.nest.flatten(example, expand_composites=True)`. So anybody
can read a shard with TensorFlow alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from rtj_api.names import Reason
from tensorflow.core.framework import tensor_pb2

from rtj_trainer.errors import PermanentError

_KINDS = (tf.TensorSpec, tf.RaggedTensorSpec, tf.SparseTensorSpec)
_OPAQUE = (tf.variant, tf.resource)


def check(spec: Any) -> None:
    """Return if elements of a dataset can be written.

    Raises:
        PermanentError: `BuilderInvalid`.
    """
    for leaf in tf.nest.flatten(spec):
        if not isinstance(leaf, _KINDS) or leaf.dtype in _OPAQUE:
            raise PermanentError(
                Reason.BUILDER_INVALID,
                f"spec.dataset.cache: datasetFunction gives {leaf}, which cannot be written to a "
                "file; an example must be made of tensors, ragged and sparse ones included",
            )


def serialize(example: Any) -> Any:
    """Return the record of an example, within a graph."""
    tensors = tf.nest.flatten(example, expand_composites=True)
    return tf.io.serialize_tensor(tf.stack([tf.io.serialize_tensor(part) for part in tensors]))


class Decoder:
    """Makes a batch of records.

    Args:
        spec: Of one example: any nesting of `TensorSpec`, `RaggedTensorSpec`, `SparseTensorSpec`.
    """

    def __init__(self, spec: Any) -> None:
        self._leaves = tf.nest.flatten(spec)
        self._plain = _plain_layout(self._leaves)

    def batch(self, records: Sequence[bytes]) -> list[np.ndarray]:
        """Return the tensors of a batch of examples, as tf.data's own `batch` makes them.

        Raises:
            ValueError: the examples have shapes that do not fit together.
        """
        if self._plain:
            return _cut(records, *self._plain)
        rows = [_parts(record) for record in records]
        columns, first = [], 0
        for leaf in self._leaves:
            width = len(tf.nest.flatten(leaf, expand_composites=True))
            columns += _stack(leaf, [row[first : first + width] for row in rows])
            first += width
        return columns


def _parts(record: bytes) -> list[np.ndarray]:
    outer = tensor_pb2.TensorProto.FromString(record).string_val
    return [tf.make_ndarray(tensor_pb2.TensorProto.FromString(inner)) for inner in outer]


def _stack(leaf: Any, rows: list[list[np.ndarray]]) -> list[np.ndarray]:
    if isinstance(leaf, tf.RaggedTensorSpec):
        return _stack_ragged(rows, leaf.row_splits_dtype.as_numpy_dtype)
    if isinstance(leaf, tf.SparseTensorSpec):
        return _stack_sparse(rows)
    shapes = {row[0].shape for row in rows}
    if len(shapes) > 1:
        shown = ", ".join(map(str, sorted(shapes)[:3]))
        raise ValueError(
            f"examples of the shapes {shown} cannot be one batch; in datasetFunction pad them, or "
            "make them ragged with tf.RaggedTensor.from_tensor"
        )
    return [np.stack([row[0] for row in rows])]


def _stack_ragged(rows: list[list[np.ndarray]], splits: Any) -> list[np.ndarray]:
    """Stack flat values and row splits, outermost splits first; a new outermost one is added."""
    values = np.concatenate([row[0] for row in rows])
    lengths = [len(row[1]) - 1 if len(row) > 1 else len(row[0]) for row in rows]
    stacked = [np.concatenate([[0], np.cumsum(lengths)]).astype(splits)]
    for level in range(1, len(rows[0])):
        ends = np.cumsum([0, *(row[level][-1] for row in rows)])
        shifted = [row[level][1:] + end for row, end in zip(rows, ends, strict=False)]
        stacked.append(np.concatenate([[0], *shifted]).astype(splits))
    return [values, *stacked]


def _stack_sparse(rows: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Stack indices, values and dense shapes; the shape is the largest."""
    indices = [np.insert(row[0], 0, place, axis=1) for place, row in enumerate(rows)]
    shape = np.max([row[2] for row in rows], axis=0)
    return [
        np.concatenate(indices),
        np.concatenate([row[1] for row in rows]),
        np.array([len(rows), *shape], np.int64),
    ]


def _plain_layout(leaves: list[Any]) -> tuple[int, list[tuple[int, int, Any]]] | None:
    """Return where the numbers are in each record, if they are always at the same bytes.

    They are if every tensor has a known shape and holds numbers: then all records have the same
    length, and differ in the content of the tensors only.

    Returns:
        Length of a record, and offset, length and spec of each tensor; None if they are not.
    """
    for leaf in leaves:
        known = isinstance(leaf, tf.TensorSpec) and leaf.shape.is_fully_defined()
        if not known or leaf.dtype == tf.string or leaf.shape.num_elements() == 0:
            return None
    example = [tf.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
    record = serialize(example).numpy()
    outer = tensor_pb2.TensorProto.FromString(record).string_val
    found, end = [], len(record)
    # From the end: the strings come last in the record, and the content last in each of them.
    for inner, leaf in zip(reversed(outer), reversed(leaves), strict=True):
        length = len(tensor_pb2.TensorProto.FromString(inner).tensor_content)
        if length != leaf.shape.num_elements() * leaf.dtype.size:
            return None
        found.append((end - length, length, leaf))
        end -= len(inner) + _varint_length(len(inner)) + 1
    return len(record), found[::-1]


def _varint_length(number: int) -> int:
    return max(-(-number.bit_length() // 7), 1)


def _cut(
    records: Sequence[bytes], length: int, layout: list[tuple[int, int, Any]]
) -> list[np.ndarray]:
    whole = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), length)
    return [
        np.ascontiguousarray(whole[:, first : first + size])
        .view(leaf.dtype.as_numpy_dtype)
        .reshape([len(records), *leaf.shape])
        for first, size, leaf in layout
    ]
