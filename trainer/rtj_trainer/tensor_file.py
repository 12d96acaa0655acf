"""Tensors in one file, in the safetensors format, each byte hashed while it is written.

The format is public and read by many tools: eight bytes with the length of the header, the header
as JSON, then the bytes of all tensors (https://huggingface.co/docs/safetensors). TensorFlow's own
`SaveV2` takes several times the processor time for the same bytes, and what it wrote must be read
again to be hashed. While training needs the cores, that is what a commit costs.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - tells NumPy of bfloat16 and float8
import numpy as np

_CODES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}
"""The format's name for each of NumPy's types that it has."""
_TYPES = {code: name for name, code in _CODES.items()}
_LENGTH_BYTES = 8
_ALIGNMENT = 8
_PIECE = 1 << 20
"""Small enough to be in the processor's cache still when it is written after it was hashed."""
_FLUSHED_BYTES = 32 << 20
"""What is flushed at a time, and then let go of: gigabytes that nobody reads before a kill would
push the dataset out of memory, and have to be flushed all at once."""


def can_hold(dtype: str) -> bool:
    """Return whether the format has a type, such as `float32`."""
    return dtype in _CODES


def write(path: Path, tensors: Mapping[str, Any]) -> str:
    """Write a file and return its sha256; its end is not fsynced.

    Args:
        path: Whatever was there is replaced.
        tensors: By name; what NumPy makes arrays of without a copy, of types that it can hold.

    Raises:
        OSError: it cannot be written.
    """
    digest, waiting = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in _pieces(tensors):
            digest.update(piece)
            file.write(piece)
            waiting += len(piece)
            if waiting >= _FLUSHED_BYTES:
                file.flush()
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                waiting = 0
    return digest.hexdigest()


def sha256(tensors: Mapping[str, Any]) -> str:
    """Return the sha256 of the file that `write` would write."""
    digest = hashlib.sha256()
    for piece in _pieces(tensors):
        digest.update(piece)
    return digest.hexdigest()


def read(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield name and array of each tensor, in the order in which they were written.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not what `write` writes.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        for name, entry in json.loads(file.read(length)).items():
            array = np.empty(entry["shape"], _TYPES[entry["dtype"]])
            if file.readinto(bytes_of(array)) != array.nbytes:
                raise ValueError(f"{path.name} ends within the tensor {name!r}")
            yield name, array


def bytes_of(array: Any) -> memoryview:
    """Return the bytes of an array, without a copy if it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _pieces(tensors: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    yield _header(arrays)
    for array in arrays.values():
        content = bytes_of(array)
        for begin in range(0, len(content), _PIECE):
            yield content[begin : begin + _PIECE]


def _header(arrays: Mapping[str, Any]) -> bytes:
    entries, end = {}, 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        entries[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text = text.ljust(math.ceil(len(text) / _ALIGNMENT) * _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text
