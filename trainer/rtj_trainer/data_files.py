"""The files that a job's parameters or pipelines name: was the data exchanged meanwhile?

Reading all data at each start would cost too much, so of a large file the size and three samples
are looked at. Its time of modification is kept too, but apart: data that an init container fetches
anew for each pod has another time and is the same. Of very many files the times must do for the
samples: to open each would take long on a network volume, and sizes alone tell nothing where all
examples are of one size. Of even more files the names must do.

A folder counts with all that is below it, and a pattern with the files that it matches; both only
if they are absolute. Folders that are links are entered too. What trainers write is left out: this
job's folder, those of other jobs beside it, and what `rtj_trainer.data` and `rtj_trainer.cache`
keep there. So are "/", which is a separator and not all files that there are, the kernel's files,
and folders such as `..2026_11_28_17_00_00.1`: a volume of a ConfigMap has its files in one, which
has another name in each pod, and they are seen through its links.

Files elsewhere, as of `gs://`, are not looked at: that may take long, and a network that fails
would look as if the data had changed. The log says so.
"""

import glob
import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rtj_trainer.commits.layout import CACHE, INDICES, JobDirectory
from rtj_trainer.urls import scheme, without_file_scheme

_SAMPLE = 1 << 16
"""Bytes that are read at the beginning, in the middle and at the end of a file."""
_SAMPLED = 1000
"""Files that are read; of more than that, sizes and times count."""
_LISTED = 200
"""Files that are listed one by one."""
_LOOKED_AT = 100_000
"""Names that are looked up, and files that are looked at: more take long on a network volume."""
_LISTED_BELOW = 10 * _LOOKED_AT
"""Files that are listed below one folder: even their names take long."""
_NO_DATA = ("/", "/proc", "/sys", "/dev")
"""Folders that are not entered."""

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
    named = list(dict.fromkeys(map(without_file_scheme, _texts(params))))
    texts = [text for text in named if not scheme(text)]
    _warn_of_urls([text for text in named if scheme(text)])
    found = {path for text in texts[:_LOOKED_AT] for path in _files(text, own.resolve())}
    paths = _chosen(found, own.resolve())
    sampled = len(paths) <= _SAMPLED
    contents: dict[str, str] = {}
    times: dict[str, str] = {}
    for path in paths[:_LOOKED_AT]:
        try:
            about = path.stat()
            if not stat.S_ISREG(about.st_mode):
                continue
            modified = str(about.st_mtime_ns)
            seen = f"sha256 of samples {_samples(path, about.st_size)}" if sampled else modified
        except OSError:  # It went away, or may not be read: then the builder does not read it.
            continue
        contents[str(path)] = f"{about.st_size} bytes, {seen}"
        if sampled and about.st_size > 3 * _SAMPLE:
            times[str(path)] = modified
    beyond = [*map(str, paths[_LOOKED_AT:]), *texts[_LOOKED_AT:]]
    return DataFiles(_shortened(contents) | _names_only(beyond), _shortened(times))


def is_pattern(text: str) -> bool:
    """Return whether a text is an absolute path with letters that stand for others."""
    return text.startswith("/") and glob.has_magic(text)


def _warn_of_urls(urls: list[str]) -> None:
    if urls:
        log.warning(
            "the job names %d URLs, such as %s; whether data there was exchanged is not seen after "
            "a restart",
            len(urls),
            urls[0],
        )


def _chosen(found: set[Path], own: Path) -> list[Path]:
    """Return those that trainers do not write, in order."""
    left_out = {folder for folder in {path.parent for path in found} if _is_inside(folder, own)}
    return sorted(path for path in found if path.parent not in left_out)


def _names_only(names: list[str]) -> dict[str, str]:
    """Return one entry for files that are too many to be looked at."""
    if not names:
        return {}
    log.warning(
        "the job names %d more data files than the %d that are looked at; whether one of them was "
        "exchanged is not seen after a restart, only whether there are others",
        len(names),
        _LOOKED_AT,
    )
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
    return {"beyond": f"{len(names)} names, {digest[:16]}"}


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


def _texts(value: Any) -> Iterator[str]:
    """Yield each text of parameters that may be a path or a pattern."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif isinstance(value, str) and value and "\0" not in value:
        yield value


def _files(text: str, own: Path) -> Iterator[Path]:
    """Yield what a text names; of a pattern's matches some may be no files."""
    yield from _named(Path(text), own)
    if is_pattern(text):
        # Not Path.glob: it fails for some texts, and has "**" for any depth.
        matches = map(Path, glob.iglob(text, include_hidden=True))  # noqa: PTH207
        written = Path(text).parts
        for path in matches:
            if not any(map(_of_one_pod, {*path.parts}.difference(written))):
                yield path


def _named(path: Path, own: Path) -> Iterator[Path]:
    try:
        if path.is_file():
            yield path
        elif path.is_absolute() and path.is_dir():
            below = _below(path, own)
            yield from islice(below, _LISTED_BELOW)
            if next(below, None):
                log.warning(
                    "there are more than %d files below %s, which the job names; whether one of "
                    "the others was exchanged is not seen after a restart",
                    _LISTED_BELOW,
                    path,
                )
    except OSError:  # Such as a name that is too long: it is no path.
        return


def _below(top: Path, own: Path) -> Iterator[Path]:
    """Yield the files below a folder, the same in the same order in every pod."""
    entered = {Path(folder) for folder in _NO_DATA}

    def is_data(folder: Path) -> bool:
        """Return whether to enter a folder: once, since links may lead in circles."""
        resolved = folder.resolve()
        if resolved in entered or _trainers(resolved, own):
            return False
        entered.add(resolved)
        return True

    if not is_data(top):
        return
    for folder, inside, names in os.walk(top, followlinks=True):
        found = (name for name in sorted(inside) if not _of_one_pod(name))
        inside[:] = [name for name in found if is_data(Path(folder, name))]
        yield from (Path(folder, name) for name in sorted(names))


def _of_one_pod(name: str) -> bool:
    """Whether a name is one that the kubelet gives to folders of a volume, anew in each pod."""
    return name.startswith("..") and name != ".."


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
