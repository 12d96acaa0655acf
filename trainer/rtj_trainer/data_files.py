"""The files that a job's parameters name: was the data exchanged meanwhile?

Reading all data at each start would cost too much, so of a large file the size and three samples
are looked at. Its time of modification is kept too, but apart: data that an init container fetches
anew for each pod has another time and is the same.

A folder counts with all that is below it. What trainers write is left out: this job's folder, those
of other jobs beside it, and what `rtj_trainer.data` and `rtj_trainer.cache` keep there.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj_trainer.commits.layout import CACHE, INDICES, JobDirectory

_SAMPLE = 1 << 16
"""Bytes that are read at the beginning, in the middle and at the end of a file."""
_SAMPLED = 1000
"""Files that are read; of more than that, only the sizes count."""
_LISTED = 200
"""Files that are listed one by one."""
_LOOKED_AT = 100_000
"""Files that are looked at; to look at more would take long on a network volume."""


@dataclass(frozen=True)
class DataFiles:
    """What is known of them, by path; one entry for all where there are very many."""

    contents: dict[str, str]
    """Size and a digest of samples."""
    times: dict[str, str]
    """When a file was modified, where the samples leave something out."""


def look_at(params: Any, own: Path) -> DataFiles:
    """Look at each file that parameters name.

    Args:
        params: Parameters of builder functions; each text in them that is a path counts.
        own: The folder that the job writes to.
    """
    paths = sorted(set(_files(params, own.resolve())))[:_LOOKED_AT]
    contents: dict[str, str] = {}
    times: dict[str, str] = {}
    for path in paths:
        try:
            about = path.stat()
            sampled = len(paths) <= _SAMPLED
            digest = f", sha256 of samples {_samples(path, about.st_size)}" if sampled else ""
        except OSError:  # It went away, or may not be read: then the builder does not read it.
            continue
        contents[str(path)] = f"{about.st_size} bytes{digest}"
        if not sampled or about.st_size > 3 * _SAMPLE:
            times[str(path)] = str(about.st_mtime_ns)
    return DataFiles(_shortened(contents), _shortened(times))


def _samples(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        if size <= 3 * _SAMPLE:
            digest.update(opened.read(3 * _SAMPLE))
        else:
            for start in (0, (size - _SAMPLE) // 2, size - _SAMPLE):
                opened.seek(start)
                digest.update(opened.read(_SAMPLE))
    return digest.hexdigest()[:16]


def _shortened(found: dict[str, str]) -> dict[str, str]:
    if len(found) <= _LISTED:
        return found
    text = "\n".join(f"{path} {about}" for path, about in found.items())
    return {"all": f"{len(found)} files, {hashlib.sha256(text.encode()).hexdigest()[:16]}"}


def _files(value: Any, own: Path) -> Iterator[Path]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _files(item, own)
    elif isinstance(value, str) and value and "\0" not in value:
        yield from _below(Path(value), own)


def _below(path: Path, own: Path) -> Iterator[Path]:
    try:
        if path.is_file():
            yield path
        elif path.is_absolute() and path.is_dir():
            for folder, inside, names in os.walk(path):
                inside[:] = [name for name in inside if not _trainers(Path(folder, name), own)]
                yield from (Path(folder, name) for name in names)
    except OSError:  # Such as a name that is too long: it is no path.
        return


def _trainers(folder: Path, own: Path) -> bool:
    """Whether trainers write the folder."""
    if folder.resolve().parent != own.parent:
        return False
    return folder.name in (own.name, INDICES, CACHE) or JobDirectory(folder).attempts.is_dir()
