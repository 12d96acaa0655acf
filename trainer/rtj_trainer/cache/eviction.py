"""Keeps the caches of a volume below a size: the one that was used longest ago goes first.

A cache is renamed before it is deleted, and looked at once more after that. A job that marks it as
used before the renaming gets it back; one that comes later finds no cache, and writes one.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtj_api.names import Reason

from rtj_trainer.cache import uses
from rtj_trainer.errors import PermanentError

_GOING = ".evicted-"
_CLOCK = ".clock"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A cache on the volume."""

    key: str
    size: int
    """Bytes of all its files."""
    last_used: float
    in_use: bool


def choose(caches: Sequence[Found], limit: int, own: str) -> list[str]:
    """Return the keys of caches to delete, so that all have at most `limit` bytes together.

    Args:
        caches: All that there are.
        limit: In bytes.
        own: Key of the one that is never chosen.
    """
    total = sum(found.size for found in caches)
    free = [found for found in caches if not found.in_use and found.key != own]
    chosen = []
    for found in sorted(free, key=lambda found: (found.last_used, found.key)):
        if total <= limit:
            break
        chosen.append(found.key)
        total -= found.size
    return chosen


def make_room(root: Path, limit: int, own: str, incoming: int) -> None:
    """Delete caches until all that is left, and what is about to be written, is below a limit.

    Args:
        root: `<volume>/cache`.
        limit: In bytes, of `spec.dataset.cache.maxSize`.
        own: Key of the job's own cache.
        incoming: Bytes that are about to be written.

    Raises:
        PermanentError: `InvalidSpec`: the job's own cache is larger than that.
    """
    for leftover in root.glob(f"{_GOING}*"):  # of a process that was killed meanwhile
        shutil.rmtree(leftover, ignore_errors=True)
    now = _now(root)
    caches = [_look(path, now) for path in root.iterdir() if path.name[0] != "."]
    size = sum(found.size for found in caches if found.key == own)
    if size > limit:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"spec.dataset.cache.maxSize is {limit} bytes, but this job's own cache has {size} "
            "already; make it larger, or have datasetFunction return less, as uint8 instead of "
            "float32",
        )
    chosen = choose(caches, limit - incoming, own)
    for key in chosen:
        _evict(root, key)
    left = sum(found.size for found in caches if found.key not in chosen)
    if left > limit:
        log.warning(
            "all caches have %d bytes, more than spec.dataset.cache.maxSize: jobs use them", left
        )


def _now(root: Path) -> float:
    clock = root / _CLOCK
    clock.touch()
    return clock.stat().st_mtime


def _look(path: Path, now: float) -> Found:
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                size += Path(folder, name).stat().st_size
            except FileNotFoundError:
                continue
    return Found(path.name, size, uses.last_used(path), uses.in_use(path, now))


def _evict(root: Path, key: str) -> None:
    going = root / f"{_GOING}{key}.{os.urandom(4).hex()}"
    try:
        (root / key).rename(going)
    except FileNotFoundError:  # Another process was faster.
        return
    if uses.in_use(going, _now(root)):
        try:
            going.rename(root / key)
            return
        except OSError:
            pass  # Its new user has begun to write it again.
    log.info("evicting cache %s, which nobody uses, to make room", key)
    shutil.rmtree(going, ignore_errors=True)
