"""ArrayRecord files as a source, read by the format's own library.

A file (cpp/layout.proto of google/array_record) is a sequence of chunks: groups of records, then
the places of these groups, then the place of that. The header of each chunk has a hash of its data,
so the headers tell the content of the file.

Two things the library does not say by itself: that it could not open a file, which must be asked;
and that a file was cut after it was opened, when what is missing comes as empty records.
"""

import hashlib
import logging
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np

from rtj_trainer.data.records import Paths, Records, expand, refuse_compressed
from rtj_trainer.data.riegeli import chunk_headers
from rtj_trainer.data.store import Finding, stamp

_RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER = 1 << 15
_OPEN_READERS = max(256, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
"""As many as can be: a file that is opened again is asked anew where its groups are."""
_LARGEST_GROUP = 64 << 20
_MOST_RECORDS = (1 << 31) - 1  # the library takes places as int32
_INSTEAD = "write it again, and close its writer"

log = logging.getLogger(__name__)


class ArrayRecords(Records):
    """The records of ArrayRecord files."""

    def __init__(self, paths: list[Path]) -> None:
        self._stamps = [stamp(path) for path in paths]
        super().__init__(paths, "arrayrecord", _scan)
        # A reader may be used by several threads, as the library itself does.
        self._readers: dict[int, Any] = {}
        self._opening = threading.Lock()

    def _read_one(self, file: int, row: int) -> bytes:
        reader = self._reader(file)
        try:
            # Not read([row]), which takes time for every group of the file.
            record: bytes = reader.read(row, row + 1)[0]
        except RuntimeError as error:
            raise OSError(
                f"{self.paths[file]}: record {row} cannot be read: {error}; put the file back as "
                "it was"
            ) from error
        if not record:
            self._expect_unchanged(file)
        return record

    def _reader(self, file: int) -> Any:
        if file in self._readers:
            return self._readers[file]
        with self._opening:
            if file in self._readers:
                return self._readers[file]
            reader = _open(self.paths[file])
            self._expect_unchanged(file)
            if len(self._readers) < _OPEN_READERS:
                self._readers[file] = reader
            return reader

    def _expect_unchanged(self, file: int) -> None:
        if stamp(self.paths[file]) != self._stamps[file]:
            raise OSError(
                f"{self.paths[file]} was changed while the job runs; put the file back as it was"
            )


def arrayrecords(paths: Paths) -> ArrayRecords:
    """Return the records of ArrayRecord files as a source of byte strings.

    Write them with `group_size:1`, because the whole group of a record is unpacked to read it. At
    the first start 40 bytes of each group are read for the fingerprint.

    Args:
        paths: One path, a pattern such as `/data/train-*`, or several.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the package `array-record` is missing.
        OSError: the package cannot open a file.
        ValueError: a file is cut or damaged, no ArrayRecord file, or has too large groups.
        PermanentError: `PipelineNotResumable`: a file is compressed as a whole.
    """
    return ArrayRecords(expand(paths))


def _open(path: Path) -> Any:
    # Imported here, because few jobs need these ten megabytes at their start.
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as error:
        raise ImportError(
            "arrayrecords() needs the package array-record, which cannot be imported here "
            f"({error}); add it to the image, or use tfrecords()"
        ) from error
    reader = ArrayRecordReader(str(path), _RANDOM_ACCESS, file_reader_buffer_size=_BUFFER)
    if reader.ok():
        return reader
    reason = "its end is missing"
    try:
        reader.close()
    except RuntimeError as error:
        reason = str(error) or reason
    raise OSError(f"{path} cannot be opened as an ArrayRecord file: {reason}; {_INSTEAD}")


def _scan(path: Path) -> Finding:
    refuse_compressed(path, "unpack it")
    try:
        headers = chunk_headers(path)
        count = _open(path).num_records()
        group, size = _largest_group(headers, count)
    except ValueError as error:
        message = f"{path} is cut or damaged, or no ArrayRecord file: {error}; {_INSTEAD}"
        raise ValueError(message) from error
    if count > _MOST_RECORDS:
        raise ValueError(f"{path} has {count} records, but {_MOST_RECORDS} can be read; split it")
    if group > 1:
        _judge_group(path, group, size)
    return Finding(hashlib.sha256(headers.tobytes()).hexdigest(), np.empty([0, count], np.int64))


def _largest_group(headers: np.ndarray, count: int) -> tuple[int, int]:
    """Return the records of a group, and the bytes that the largest one has when unpacked.

    Raises:
        ValueError: the chunks do not fit `count`, by which the library finds the group of a record.
    """
    # Padding has no records. The last two chunks that have some tell where the others are.
    chunks = headers[headers[:, 3] >> 8 > 0]
    groups, sizes = chunks[:-2, 3] >> 8, chunks[:-2, 4]
    fits = (
        len(chunks) >= 2
        and chunks[-2, 3] >> 8 == len(groups) + 1
        and groups.sum() == count
        and np.all(groups[:-1] == groups[:1])
        and np.all(groups[-1:] <= groups[:1])
    )
    if not fits:
        raise ValueError(f"its chunks do not hold {count} records, in groups of one size")
    return max(groups.tolist(), default=0), max(sizes.tolist(), default=0)


def _judge_group(path: Path, group: int, size: int) -> None:
    what = f"{path} has groups of {group} records; to read one, up to {size} bytes are unpacked"
    if size > _LARGEST_GROUP:
        raise ValueError(f"{what}; write it again with group_size:1")
    log.warning("%s; group_size:1 makes that faster", what)
