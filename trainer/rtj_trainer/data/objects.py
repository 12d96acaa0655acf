"""Any Python object with a length and numbered items as a source."""

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_trainer.data.source import Source
from rtj_trainer.preflight.refusal import refuse


def objects(items: Any, signature: Any) -> Source:
    """Return an object that has `__len__` and `__getitem__` as a source.

    Item i must be the same whenever and in whichever process it is asked for: no random numbers, no
    counters, no clock. The first, the middle and the last item are read twice and compared, and
    must be the same after a restart; nobody can check the others. Items are read by one thread at
    a time, not always the same one.

    Args:
        items: As a list, or a data set class of another library.
        signature: A `tf.TensorSpec` for one item, or a nesting of them like the items'. Shapes
            must be known, because items are stacked to batches.

    Raises:
        TypeError: `items` has no length, or an item has another structure.
        ValueError: a shape is not known, or an item has another.
        PermanentError: `PipelineNotResumable`: an item changed between two reads.
    """
    if not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
        raise TypeError(f"{type(items).__name__} has not both __len__ and __getitem__")
    for spec in tf.nest.flatten(signature):
        if not spec.shape.is_fully_defined():
            raise ValueError(
                f"{spec}: give every dimension; pad items or serialize them to a string"
            )
    return _Objects(items, signature)


class _Objects(Source):
    def __init__(self, items: Any, signature: Any) -> None:
        self._items = items
        self._signature = signature
        self._specs = tf.nest.flatten(signature)
        self._reading = threading.Lock()
        self._kind = type(items).__name__
        self._digest = self._probe()

    def _probe(self) -> str:
        length = len(self)
        digest = hashlib.sha256()
        for place in sorted({0, length // 2, length - 1} if length else set()):
            first, second = (_digest(self.read(np.array([place]))) for _ in range(2))
            if first != second:
                what = f"item {place} of {self._kind} was another when it was read again"
                instead = (
                    "leave out what is random or counts, or use tf.random.stateless_* in decode"
                )
                refuse([f"{what}; {instead}"])
            digest.update(first)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def signature(self) -> Any:
        return self._signature

    @property
    def contents(self) -> dict[str, str]:
        return {self._kind: f"{len(self)} items, {self._digest[:16]} in three of them"}

    @property
    def sampled(self) -> bool:
        return True

    def read(self, places: np.ndarray) -> list[np.ndarray]:
        with self._reading:
            rows = [list(self._leaves(place)) for place in places.tolist()]
        return [np.stack(column) for column in zip(*rows, strict=True)]

    def _leaves(self, place: int) -> Iterator[np.ndarray]:
        item = self._items[place]
        tf.nest.assert_same_structure(self._signature, item)
        for spec, leaf in zip(self._specs, tf.nest.flatten(item), strict=True):
            yield _leaf(leaf, spec, f"item {place} of {self._kind}")


def _leaf(value: Any, spec: Any, name: str) -> np.ndarray:
    if spec.dtype == tf.string:
        # NumPy's own byte strings lose zeros at their end.
        found = np.asarray(value, dtype=object)
    else:
        found = np.asarray(value)
        if not np.can_cast(found.dtype, spec.dtype.as_numpy_dtype, "same_kind"):
            raise TypeError(f"{name} has dtype {found.dtype}, the signature says {spec.dtype.name}")
        found = found.astype(spec.dtype.as_numpy_dtype)
    if found.shape != tuple(spec.shape):
        raise ValueError(f"{name} has shape {found.shape}, the signature says {spec.shape}")
    return found


def _digest(columns: list[np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for column in columns:
        content = repr(column.tolist()).encode() if column.dtype == object else column.tobytes()
        digest.update(content)
    return digest.digest()
