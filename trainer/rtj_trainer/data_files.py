"""The files that a job's parameters or pipelines name: was the data exchanged meanwhile?

Reading all data at each start would cost too much, so of a large file the size and three samples
are looked at. Its time of modification is kept too, but apart: data that an init container fetches
anew for each pod has another time and is the same. Of very many files the times must do for the
samples: to open each would take long on a network volume, and sizes alone tell nothing where all
examples are of one size.

A folder counts with all that is below it, and a pattern with the files that it matches; both only
if they are absolute. What trainers write is left out: this job's folder, those
of other jobs beside it, and what `rtj_trainer.data` and `rtj_trainer.cache` keep there.
"""

import glob
import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj_trainer.commits.layout import CACHE, INDICES, JobDirectory

_SAMPLE = 1 << 16
"""Bytes that are read at the beginning, in the middle and at the end of a file."""
_SAMPLED = 1000
"""Files that are read; of more than that, sizes and times count."""
_LISTED = 200
"""Files that are listed one by one."""
_LOOKED_AT = 100_000
"""Files that are looked at; to look at more would take long on a network volume."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataFiles:
    """What is known of them, by path; one entry for all where there are very many."""

    contents: dict[str, str]
    """Size and a digest of samples, or the time where there are too many files to read."""
    times: dict[str, str]
    """When a file was modified, where the samples leave something out."""


def look_at(params: Any, own: Path) -> DataFiles:
    """Look at each file that parameters name.

    Args:
        params: Parameters of builder functions, or names that were found otherwise; each text in
            them that is a path or a pattern counts.
        own: The folder that the job writes to.
    """
    paths = _chosen(set(_files(params, own.resolve())), own.resolve())
    sampled = len(paths) <= _SAMPLED
    contents: dict[str, str] = {}
    times: dict[str, str] = {}
    for path in paths:
        try:
            about = path.stat()
            modified = str(about.st_mtime_ns)
            seen = f"sha256 of samples {_samples(path, about.st_size)}" if sampled else modified
        except OSError:  # It went away, or may not be read: then the builder does not read it.
            continue
        contents[str(path)] = f"{about.st_size} bytes, {seen}"
        if sampled and about.st_size > 3 * _SAMPLE:
            times[str(path)] = modified
    return DataFiles(_shortened(contents), _shortened(times))


def is_pattern(text: str) -> bool:
    """Return whether a text is an absolute path with letters that stand for others."""
    return text.startswith("/") and glob.has_magic(text)


def _chosen(found: set[Path], own: Path) -> list[Path]:
    """Return what is looked at, in order."""
    left_out = {folder for folder in {path.parent for path in found} if _is_inside(folder, own)}
    paths = sorted(path for path in found if path.parent not in left_out)
    if len(paths) > _LOOKED_AT:
        log.warning(
            "the job names %d data files; whether one of the first %d was exchanged is seen after "
            "a restart, of the others it is not",
            len(paths),
            _LOOKED_AT,
        )
    return paths[:_LOOKED_AT]


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
        if is_pattern(value):
            # Not Path.glob: it fails for some texts, and has "**" for any depth.
            matches = glob.iglob(value, include_hidden=True)  # noqa: PTH207
            yield from (path for path in map(Path, matches) if path.is_file())


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


def _is_inside(folder: Path, own: Path) -> bool:
    """Whether a folder is one that trainers write, or below one."""
    resolved, volume = folder.resolve(), own.parent
    if volume not in resolved.parents:
        return False
    return _trainers(volume / resolved.relative_to(volume).parts[0], own)
