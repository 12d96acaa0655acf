"""The record of what was trained on, step by step, for anybody to check.

Each attempt appends one JSON line per step to its own segment: the step, the epoch, and the ids of
the examples (or, where the pipeline yields none, the sha256 of the batch). A segment is made
durable before the commit that covers it, so every committed step has its line; lines after the last
commit of an attempt belong to work that was lost, and are ignored. Segments are kept for ever.

A rolling hash over the lines is part of every commit, so two histories are equal exactly when
their last hashes are. `python -m rtj_trainer ledger check` reads it.
"""

import contextlib
import hashlib
import itertools
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj_trainer import files
from rtj_trainer.commits import attempts, lineage
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import CommitDamagedError, Manifest, read_manifest

_WRITE_BEHIND = 4 << 20
EMPTY_HASH = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Entry:
    """One step of training."""

    step: int
    """Number of the step, from 1, over the whole job."""
    epoch: int
    """Index of the epoch, from 0."""
    ids: tuple[int | str, ...] | None
    """Ids of the examples in the batch, in order; None if the pipeline yields none."""
    sha256: str | None
    """Digest of the batch where there are no ids."""

    def line(self) -> bytes:
        """Return the canonical line: the same step always has the same bytes."""
        content: dict[str, Any] = {"step": self.step, "epoch": self.epoch}
        if self.ids is not None:
            content["ids"] = self.ids
        else:
            content["sha256"] = self.sha256
        return (json.dumps(content, separators=(",", ":")) + "\n").encode()

    @classmethod
    def parse(cls, line: bytes) -> "Entry":
        """Read a line back."""
        content = json.loads(line)
        ids = tuple(content["ids"]) if "ids" in content else None
        return cls(content["step"], content["epoch"], ids, content.get("sha256"))


def roll(previous: str, line: bytes) -> str:
    """Return sha256(previous digest || sha256(line)), in hex."""
    return hashlib.sha256(bytes.fromhex(previous) + hashlib.sha256(line).digest()).hexdigest()


class LedgerWriter:
    """Appends to the segment of one attempt; one thread appends, another may flush.

    Lines are kept in memory until an fsync has succeeded: what a failed one leaves of them in the
    file is unknown, and the next fsync does not tell of it any more.
    """

    def __init__(self, path: Path, rolling_hash: str = EMPTY_HASH) -> None:
        self.rolling_hash = rolling_hash
        self._path = path
        self._pending = bytearray()
        self._write_at = _WRITE_BEHIND
        """Bytes pending at which `append` does not wait for the next flush."""
        self._durable: int | None = None
        """Bytes of the file that an fsync has made durable; None before it was opened."""
        self._descriptor: int | None = None
        self._writing = threading.Lock()

    def append(self, entry: Entry) -> None:
        """Add a step; durable after the next `flush`."""
        line = entry.line()
        self._pending += line
        self.rolling_hash = roll(self.rolling_hash, line)
        if len(self._pending) > self._write_at and self._writing.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):  # the next flush tries again, and reports
                    self._make_durable()
            finally:
                self._write_at = len(self._pending) + _WRITE_BEHIND
                self._writing.release()

    def flush(self) -> None:
        """Make everything that was appended before the call durable.

        Raises:
            OSError: the volume is full or broken; what could not be written is kept for next time.
        """
        with self._writing:
            self._make_durable()

    def _make_durable(self) -> None:
        lines = bytes(self._pending)  # A copy: while it is written, the other thread may append.
        try:
            descriptor = self._open()
            written = 0
            while written < len(lines):
                written += os.write(descriptor, memoryview(lines)[written:])
            os.fsync(descriptor)
        except OSError:
            self._close()
            raise
        self._durable = (self._durable or 0) + len(lines)
        del self._pending[: len(lines)]

    def _open(self) -> int:
        """Return the file, with nothing in it but what is durable."""
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._descriptor = os.open(self._path, flags, 0o644)
            if self._durable is None:  # What a fork begins with was made durable by who wrote it.
                self._durable = os.fstat(self._descriptor).st_size
            os.ftruncate(self._descriptor, self._durable)
            files.fsync_directory(self._path.parent)
        return self._descriptor

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):  # It failed before, and all is written again.
                os.close(descriptor)


def committed_trajectory(job_dir: Path) -> list[Entry]:
    """Return the steps that are in the weights of the newest commit, in order, over all attempts.

    Args:
        job_dir: `<volume>/<job uid>`.

    Raises:
        ValueError: there is no commit, a line is missing or damaged, or the lines do not have the
            hash that a commit recorded.
        OSError: a segment cannot be read.
    """
    job = JobDirectory(job_dir)
    newest, manifest = head(job)
    return list(trajectory(job, newest, manifest.ledger_hash))


def trajectory(job: JobDirectory, newest: CommitId, expected: str) -> Iterator[Entry]:
    """Yield the steps that are in a commit, in order, and check them at each commit on the way.

    Args:
        job: Folder of the job.
        newest: The commit.
        expected: The hash of the ledger that it recorded.

    Raises:
        ValueError: a line is missing or damaged, or the lines do not have the hash that a commit
            recorded.
        OSError: a segment cannot be read.
    """
    parts: list[tuple[Path, int, int]] = []
    recorded = {newest.step: (newest, expected)}
    limit: CommitId | None = newest
    while limit:
        record = attempts.read_start_record(job, limit.attempt)
        if record is None:
            raise ValueError(f"attempt {limit.attempt} committed but has no start record")
        first = record.starts_from.step if record.starts_from else 0
        parts.append((job.ledger_segment(limit.attempt), first, limit.step))
        recorded = _recorded_hashes(job, limit) | recorded
        limit = record.starts_from
    actual, agreed = EMPTY_HASH, 0
    for entry in itertools.chain.from_iterable(_segment(*part) for part in reversed(parts)):
        actual = roll(actual, entry.line())
        commit_id, known = recorded.get(entry.step, (newest, actual))
        if actual != known:
            raise ValueError(
                f"among steps {agreed + 1} to {entry.step} a line is not what was trained on: the "
                f"ledger has hash {actual}, but commit {commit_id} recorded {known}"
            )
        if entry.step in recorded:
            agreed = entry.step
        yield entry


def head(job: JobDirectory) -> tuple[CommitId, Manifest]:
    """Return the newest commit of the lineage whose manifest can be read.

    Raises:
        ValueError: there is none.
    """
    for commit_id in lineage.candidates(job, before=max(job.fenced_attempts(), default=0) + 1):
        with contextlib.suppress(CommitDamagedError):
            return commit_id, read_manifest(job.commit(commit_id))
    raise ValueError(f"{job.root} holds no commit")


def _recorded_hashes(job: JobDirectory, newest: CommitId) -> dict[int, tuple[CommitId, str]]:
    """Return what each readable commit of one attempt recorded, up to one of them, by its step."""
    recorded: dict[int, tuple[CommitId, str]] = {}
    for commit_id in job.commit_ids():
        if commit_id.attempt == newest.attempt and commit_id <= newest:
            with contextlib.suppress(CommitDamagedError):
                manifest = read_manifest(job.commit(commit_id))
                recorded[commit_id.step] = (commit_id, manifest.ledger_hash)
    return recorded


def _segment(path: Path, after: int, until: int) -> Iterator[Entry]:
    step = after
    if step < until:
        with path.open("rb") as lines:
            for line in lines:
                entry = _parse(path, step + 1, line)
                if entry.step != step + 1:
                    raise ValueError(f"{path} has step {entry.step} instead of {step + 1}")
                step += 1
                yield entry
                if step == until:
                    return
        raise ValueError(f"{path} ends at step {step} instead of {until}")


def _parse(path: Path, step: int, line: bytes) -> Entry:
    try:
        return Entry.parse(line)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: the line of step {step} is damaged: {line[:80]!r}") from error
