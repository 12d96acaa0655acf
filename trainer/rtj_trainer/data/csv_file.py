"""CSV files as a source: where each row is, newlines within quotes understood (RFC 4180).

A newline ends a row if an even number of quotes is before it, because a quote within a quoted field
is written twice. So rows are found by counting, without reading fields.
"""

import csv
import hashlib
import io
from functools import partial
from pathlib import Path

import numpy as np

from rtj_trainer.data.records import Paths, Stretches, expand, refuse_compressed
from rtj_trainer.data.store import Finding

_CHUNK = 1 << 24
_QUOTE, _NEWLINE, _RETURN = b'"\n\r'
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class CsvRows(Stretches):
    """The rows of CSV files."""

    columns: list[str]
    """Names of the columns from the header; empty without one."""


def csv_rows(paths: Paths, *, header: bool, delimiter: str = ",") -> CsvRows:
    """Return the rows of CSV files as a source of byte strings, without their line ends.

    Follow it with `tf.io.decode_csv`, which takes a whole batch; `columns` has the names. Empty
    lines are left out. The files are read once at the first start to find the rows.

    Args:
        paths: One path, a pattern such as `/data/*.csv`, or several.
        header: Whether the first row of each file names the columns.
        delimiter: Between the names in the header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file ends within quotes, is not in UTF-8 or the like, or has another header.
        PermanentError: `PipelineNotResumable`: a file is compressed.
    """
    kind = "csv with header" if header else "csv"
    rows = CsvRows(expand(paths), kind, partial(_scan, header=header))
    rows.columns = _common_header(rows.paths, delimiter) if header else []
    return rows


def _common_header(paths: list[Path], delimiter: str) -> list[str]:
    headers = [_header(path, delimiter) for path in paths]
    for path, header in zip(paths, headers, strict=True):
        if header != headers[0]:
            raise ValueError(
                f"{path} has the columns {header}, but {paths[0]} has {headers[0]}; read them as "
                "two sources"
            )
    return headers[0]


def _header(path: Path, delimiter: str) -> list[str]:
    with io.TextIOWrapper(path.open("rb"), "utf-8-sig", "replace", newline="") as text:
        return next((row for row in csv.reader(text, delimiter=delimiter) if row), [])


def _scan(path: Path, header: bool) -> Finding:
    refuse_compressed(path, "unpack it")
    digest = hashlib.sha256()
    breaks: list[np.ndarray] = []
    returns: list[np.ndarray] = []
    position, quotes_before, last = 0, 0, 0
    with path.open("rb") as file:
        beginning = file.read(3)
        if beginning.startswith(_UTF16_MARKS):
            raise ValueError(f"{path} is in UTF-16; convert it to UTF-8")
        file.seek(0)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            letters = np.frombuffer(chunk, np.uint8)
            quotes = np.flatnonzero(letters == _QUOTE)
            newlines = np.flatnonzero(letters == _NEWLINE)
            newlines = newlines[(np.searchsorted(quotes, newlines) + quotes_before) % 2 == 0]
            before = np.where(newlines > 0, letters[newlines - 1], last)
            breaks.append(newlines + position)
            returns.append(before == _RETURN)
            position += len(chunk)
            quotes_before += len(quotes)
            last = chunk[-1]
    ends = np.concatenate([*breaks, [position]]).astype(np.int64)
    starts = np.concatenate([[len(_UTF8_MARK) * (beginning == _UTF8_MARK)], ends[:-1] + 1])
    if quotes_before % 2:
        raise ValueError(
            f"{path} ends within quotes, in the row that begins at byte {starts[-1]}; "
            "a quote within a field must be written twice, and the field be in quotes (RFC 4180)"
        )
    lengths = ends - starts - np.concatenate([*returns, [False]])
    rows = np.stack([starts, lengths]).astype(np.int64)[:, lengths > 0]
    return Finding(digest.hexdigest(), rows[:, 1:] if header else rows)
