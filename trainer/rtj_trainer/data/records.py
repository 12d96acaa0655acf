"""Records in files, one file after the other: what sources of all formats have in common."""

import hashlib
import os
import threading
import weakref
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_trainer.data.source import Source
from rtj_trainer.data.store import Finding, find_in_file
from rtj_trainer.preflight.refusal import refuse

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One path, a pattern such as `/data/part-*`, or several of both."""

_OPEN_FILES = 256
"""A quarter of the usual limit of a process: to open such a file again costs next to nothing."""
_LISTED_FILES = 100
_COMPRESSED = {
    b"\x1f\x8b": "GZIP",
    b"PK\x03\x04": "ZIP",
    b"BZh9": "BZIP2",
    b"\x28\xb5\x2f\xfd": "ZSTD",
}


def expand(paths: Paths) -> list[Path]:
    """Return the files in the order in which their records are numbered; a pattern's are sorted.

    Raises:
        FileNotFoundError: there is no such file, or none that fits a pattern.
    """
    given: Iterable[Any] = [paths] if isinstance(paths, str | os.PathLike) else paths
    found: list[Path] = []
    for path in map(Path, given):
        if path.exists() or not any(letter in str(path) for letter in "*?["):
            found.append(path)
            continue
        root = Path(path.anchor)
        matches = sorted(root.glob(str(path.relative_to(root))))
        if not matches:
            raise FileNotFoundError(f"no file fits {path}")
        found += matches
    if not found:
        raise FileNotFoundError("no files were given")
    return found


def refuse_compressed(path: Path, instead: str) -> None:
    """Refuse a compressed file: there is no reading in the middle of it.

    Args:
        path: Of the file.
        instead: What to do.

    Raises:
        PermanentError: `PipelineNotResumable`.
    """
    with path.open("rb") as file:
        beginning = file.read(4)
    for magic, kind in _COMPRESSED.items():
        if beginning.startswith(magic):
            refuse(
                [f"{path} is compressed ({kind}), so no record can be read by its place; {instead}"]
            )


class Records(Source):
    """The records of some files, one file after the other.

    Args:
        paths: Of the files.
        kind: Names the format and the version of `scan`.
        scan: Looks through a file: numbers of shape [k, n], of n records.
    """

    def __init__(self, paths: list[Path], kind: str, scan: Callable[[Path], Finding]) -> None:
        self.paths = paths
        self._found = [find_in_file(kind, path, scan) for path in paths]
        self._ends: list[int] = [*accumulate(item.numbers.shape[1] for item in self._found)]

    def __len__(self) -> int:
        """Return the number of records."""
        return self._ends[-1]

    @property
    def signature(self) -> Any:
        """The bytes of a record."""
        return tf.TensorSpec([], tf.string)

    @property
    def contents(self) -> dict[str, str]:
        """Each file, or each group of files if there are more than a hundred."""
        several = -(-len(self.paths) // _LISTED_FILES)
        groups = range(0, len(self.paths), several)
        return dict(self._described(first, first + several) for first in groups)

    def _described(self, first: int, stop: int) -> tuple[str, str]:
        found, paths = self._found[first:stop], self.paths[first:stop]
        name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} … {paths[-1].name}"
        digest = hashlib.sha256(" ".join(item.digest for item in found).encode()).hexdigest()
        return name, f"{sum(item.numbers.shape[1] for item in found)} records, {digest[:16]}"

    def read(self, places: np.ndarray) -> list[np.ndarray]:
        """Return the bytes of each record."""
        records = np.empty(len(places), dtype=object)
        for slot, place in enumerate(places.tolist()):
            file = bisect_right(self._ends, place)
            row = place - self._ends[file] + self._found[file].numbers.shape[1]
            records[slot] = self._read_one(file, row)
        return [records]

    @abstractmethod
    def _read_one(self, file: int, row: int) -> bytes:
        """Return the record `row` of the file `self.paths[file]`; several threads may ask.

        Raises:
            OSError: it cannot be read, or is not what it was.
        """


class Stretches(Records):
    """Records that are stretches of bytes: `scan` gives offsets and lengths, shape [2, n]."""

    def __init__(self, paths: list[Path], kind: str, scan: Callable[[Path], Finding]) -> None:
        super().__init__(paths, kind, scan)
        self._files = _OpenFiles()

    def _read_one(self, file: int, row: int) -> bytes:
        offset, length = self._found[file].numbers[:, row].tolist()
        return self._files.read(self.paths[file], offset, length)


class _OpenFiles:
    """Reads parts of files, from several threads, and keeps some of the files open."""

    def __init__(self) -> None:
        self._descriptors: dict[Path, int] = {}
        self._opening = threading.Lock()
        # Not at the end of the process, when other threads may still read.
        weakref.finalize(self, _close, self._descriptors).atexit = False

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Return a part of a file.

        Raises:
            OSError: it cannot be read, or has no such part.
        """
        descriptor = self._descriptor(path)
        try:
            content = _pread(descriptor, offset, length)
        finally:
            if self._descriptors.get(path) != descriptor:
                os.close(descriptor)
        if len(content) < length:
            raise OSError(
                f"{path} ends within its record at byte {offset}: it was changed while the job "
                "runs; put the file back as it was"
            )
        return content

    def _descriptor(self, path: Path) -> int:
        if path in self._descriptors:
            return self._descriptors[path]
        with self._opening:
            if path in self._descriptors:
                return self._descriptors[path]
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if len(self._descriptors) < _OPEN_FILES:
                self._descriptors[path] = descriptor
            return descriptor


def _close(descriptors: dict[Path, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def _pread(descriptor: int, offset: int, length: int) -> bytes:
    content = os.pread(descriptor, length, offset)
    while len(content) < length:  # Linux reads at most 2 GB at once
        more = os.pread(descriptor, length - len(content), offset + len(content))
        if not more:
            break
        content += more
    return content
