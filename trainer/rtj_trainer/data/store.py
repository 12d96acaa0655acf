"""Keeps what was found out about data files, so that a restart need not look through them again.

A finding is an array of numbers, as the places of all records in a file. It is kept under
`<volume>/indices/<digest of all that it depends on>` and shared by all jobs on the volume. It is
only ever written whole and then renamed into place, so a kill leaves nothing, or a hidden file that
the next writer of the same finding removes. A finding that is damaged is found out again. So is all
of it if there is no volume, once per process.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtj_trainer import files
from rtj_trainer.data.indexing import current_context

_FORMAT = 1
_DIGEST_BYTES = 32

log = logging.getLogger(__name__)
_memory: dict[str, "Finding"] = {}


@dataclass(frozen=True)
class Finding:
    """What was found out."""

    digest: str
    """Of the content that it was found in."""
    numbers: np.ndarray
    """Any shape, int64."""


def find(depends_on: list[Any], find_out: Callable[[], Finding]) -> Finding:
    """Return a finding from memory, from the volume, or from `find_out`.

    Args:
        depends_on: All that decides what is found, and its kind, as JSON.
        find_out: Takes long; what it raises is raised.
    """
    key = hashlib.sha256(json.dumps([_FORMAT, *depends_on]).encode()).hexdigest()
    if key not in _memory:
        _memory[key] = _from_store(key, find_out)
    return _memory[key]


def find_in_file(kind: str, path: Path, find_out: Callable[[Path], Finding]) -> Finding:
    """Return a finding about a file, which is found out anew if its size or a time changes.

    Raises:
        OSError: the file cannot be read.
        ValueError: it changed meanwhile; or from `find_out`.
    """
    before = stamp(path)

    def looked() -> Finding:
        log.info("looking through %s, once (%s)", path, kind)
        found = find_out(path)
        if stamp(path) != before:
            raise ValueError(f"{path} changed while it was read; write data before the job starts")
        return found

    return find([kind, *before], looked)


def stamp(path: Path) -> list[Any]:
    """Return what tells a file from any other, or from itself after a change."""
    found = path.stat()
    # The time of change too, because copying can set the time of modification back.
    return [str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _from_store(key: str, find_out: Callable[[], Finding]) -> Finding:
    store = current_context().store
    if store is None:
        return find_out()
    path = store / key
    try:
        return _parse(path.read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("%s is damaged and made again: %s", path, error)
    found = find_out()
    try:
        files.make_directory(store)
        files.replace_file(path, _content(found))
    except OSError as error:
        log.warning("%s cannot be kept for the next attempt: %s", path, error)
    return found


def _content(found: Finding) -> bytes:
    header = {"digest": found.digest, "shape": found.numbers.shape}
    body = json.dumps(header).encode() + b"\n" + found.numbers.astype("<i8").tobytes()
    return hashlib.sha256(body).digest() + body


def _parse(content: bytes) -> Finding:
    body = memoryview(content)[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != content[:_DIGEST_BYTES]:
        raise ValueError("its content does not have its sha256")
    end = content.index(b"\n", _DIGEST_BYTES) + 1
    header = json.loads(content[_DIGEST_BYTES:end])
    numbers = np.frombuffer(content, "<i8", offset=end).reshape(header["shape"])
    return Finding(header["digest"], numbers)
