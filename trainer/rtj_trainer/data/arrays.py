"""NumPy arrays as a source: in memory, or memory-mapped from files."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_trainer import files
from rtj_trainer.data.source import Source
from rtj_trainer.data.store import Finding, find_in_file
from rtj_trainer.tensor_file import bytes_of

_NOTHING = np.zeros(0, np.int64)


def arrays(data: Any) -> Source:
    """Return arrays as a source: example i is row i of each of them.

    Arrays of any size may be given: unlike those of `from_tensor_slices`, they are no part of the
    graph. They must not change afterwards.

    Args:
        data: An array, a path of an `.npy` file, which is mapped into memory, or any nesting of
            both in dicts and tuples; or the path of one `.npz` file, which is read into memory as
            a dict. Strings become byte strings in UTF-8.

    Raises:
        ValueError: lengths differ, an array has no rows, holds Python objects, or has a dtype that
            no tensor has.
        FileNotFoundError: there is no such file.
    """
    if isinstance(data, str | os.PathLike) and str(data).endswith(".npz"):
        with np.load(data, allow_pickle=False) as archive:
            data = dict(archive)
    return _Arrays(_columns("", data))


def _columns(name: str, data: Any) -> Any:
    """Return the nesting with a column in the place of each array."""
    prefix = f"{name}/" if name else ""
    if isinstance(data, dict):
        return {key: _columns(f"{prefix}{key}", data[key]) for key in data}
    if isinstance(data, tuple):
        return tuple(_columns(f"{prefix}{place}", value) for place, value in enumerate(data))
    return _Column(name or "array", data)


class _Column:
    def __init__(self, name: str, value: Any) -> None:
        if isinstance(value, str | os.PathLike):
            path = Path(value)
            self.values = np.load(path, mmap_mode="r", allow_pickle=False)
            self.name = str(path)
            digest = find_in_file("npy", path, _digest_of_file).digest
        else:
            self.values = _plain(name, np.asarray(value))
            self.name = name
            digest = _digest_of_array(self.values)
        if self.values.ndim == 0:
            raise ValueError(f"{self.name} has no rows: it is one {self.values.dtype}")
        self.described = f"{self.values.dtype.name} {self.values.shape}, {digest[:16]}"
        self.text = self.values.dtype.kind in "OS"
        self.spec = tf.TensorSpec(self.values.shape[1:], self._type())

    def _type(self) -> Any:
        if self.text:
            return tf.string
        try:
            return tf.as_dtype(self.values.dtype)
        except TypeError:
            raise ValueError(
                f"{self.name} has dtype {self.values.dtype}, which no tensor has; convert it, as "
                "with .astype('int64'), or give each field of a structured array by itself"
            ) from None

    def read(self, places: np.ndarray) -> np.ndarray:
        rows = self.values[places]
        return rows.astype(object) if self.text else np.asarray(rows)


def _plain(name: str, values: np.ndarray) -> np.ndarray:
    """Return an array of numbers or of byte strings."""
    if values.dtype.kind not in "OU":
        return values
    items = [item.encode() if isinstance(item, str) else item for item in values.ravel().tolist()]
    if not all(isinstance(item, bytes) for item in items):
        raise ValueError(f"{name} holds Python objects; convert it to numbers or strings")
    plain = np.empty(len(items), dtype=object)
    plain[:] = items
    return plain.reshape(values.shape)


def _digest_of_array(values: np.ndarray) -> str:
    if values.dtype.kind != "O":
        return hashlib.sha256(bytes_of(values)).hexdigest()
    digest = hashlib.sha256()
    for item in values.ravel().tolist():
        digest.update(f"{len(item)} ".encode() + item)
    return digest.hexdigest()


def _digest_of_file(path: Path) -> Finding:
    return Finding(files.sha256_of_file(path), _NOTHING)


class _Arrays(Source):
    def __init__(self, columns: Any) -> None:
        self._columns: list[_Column] = tf.nest.flatten(columns)
        self._signature = tf.nest.map_structure(lambda column: column.spec, columns)
        lengths = {column.name: len(column.values) for column in self._columns}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"arrays must have the same number of rows, not {lengths}")

    def __len__(self) -> int:
        return len(self._columns[0].values)

    @property
    def signature(self) -> Any:
        return self._signature

    @property
    def contents(self) -> dict[str, str]:
        return {column.name: column.described for column in self._columns}

    def read(self, places: np.ndarray) -> list[np.ndarray]:
        return [column.read(places) for column in self._columns]
