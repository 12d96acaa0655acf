"""The record of what was trained on, step by step, for anybody to check.

Each attempt appends one JSON line per step to its own segment: the step, the epoch, and the ids of
the examples (or, where the pipeline yields none, the sha256 of the batch). A segment is made
durable before the commit that covers it, so every committed step has its line; lines after the last
commit of an attempt belong to work that was lost, and are ignored. Segments are kept for ever.

A rolling hash over the lines is part of every commit, so two histories are equal exactly when
their last hashes are.

    python -m rtj_trainer.ledger <volume>/<job uid>
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj_trainer import files
from rtj_trainer.commits import attempts
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import read_manifest

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
    """Appends to the segment of one attempt."""

    def __init__(self, path: Path, rolling_hash: str = EMPTY_HASH) -> None:
        self.rolling_hash = rolling_hash
        self._path = path
        self._pending = bytearray()
        self._descriptor: int | None = None

    def append(self, entry: Entry) -> None:
        """Add a step; durable after the next `flush`."""
        line = entry.line()
        self._pending += line
        self.rolling_hash = roll(self.rolling_hash, line)
        if len(self._pending) > _WRITE_BEHIND:
            with contextlib.suppress(OSError):  # the next flush tries again, and reports
                self._write()

    def flush(self) -> None:
        """Make everything that was appended durable.

        Raises:
            OSError: the volume is full or broken; what could not be written is kept for next time.
        """
        self._write()
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def _write(self) -> None:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._descriptor = os.open(self._path, flags, 0o644)
            files.fsync_directory(self._path.parent)
        while self._pending:
            written = os.write(self._descriptor, self._pending)
            del self._pending[:written]


def committed_trajectory(job_dir: Path) -> list[Entry]:
    """Return the steps that are in the weights of the newest commit, in order, over all attempts.

    Args:
        job_dir: `<volume>/<job uid>`.

    Raises:
        ValueError: there is no commit, a line is missing, or the lines do not have the hash that
            the commit recorded.
    """
    job = JobDirectory(job_dir)
    head = _head(job)
    return list(trajectory(job, head, read_manifest(job.commit(head)).ledger_hash))


def trajectory(job: JobDirectory, head: CommitId, expected: str) -> Iterator[Entry]:
    """Yield the steps that are in a commit, in order, and check them at the end.

    Args:
        job: Folder of the job.
        head: The commit.
        expected: The hash of the ledger that it recorded.

    Raises:
        ValueError: a line is missing, or the lines do not have that hash.
        OSError: a segment cannot be read.
    """
    parts: list[tuple[Path, int, int]] = []
    limit: CommitId | None = head
    while limit:
        record = attempts.read_start_record(job, limit.attempt)
        if record is None:
            raise ValueError(f"attempt {limit.attempt} committed but has no start record")
        first = record.starts_from.step if record.starts_from else 0
        parts.append((job.ledger_segment(limit.attempt), first, limit.step))
        limit = record.starts_from
    actual = EMPTY_HASH
    for part in reversed(parts):
        for entry in _segment(*part):
            actual = roll(actual, entry.line())
            yield entry
    if actual != expected:
        raise ValueError(f"the ledger has hash {actual}, but commit {head} recorded {expected}")


def _head(job: JobDirectory) -> CommitId:
    record = attempts.newest_start_record(job, before=10**6)
    if record:
        own = [found for found in job.commit_ids() if found.attempt == record.attempt]
        head = own[-1] if own else record.starts_from
        if head:
            return head
    raise ValueError(f"{job.root} holds no commit")


def _segment(path: Path, after: int, until: int) -> Iterator[Entry]:
    step = after
    if step < until:
        with path.open("rb") as lines:
            for line in lines:
                entry = Entry.parse(line)
                if entry.step != step + 1:
                    raise ValueError(f"{path} has step {entry.step} instead of {step + 1}")
                step += 1
                yield entry
                if step == until:
                    return
        raise ValueError(f"{path} ends at step {step} instead of {until}")


def check_each_id_once_per_epoch(
    entries: Iterable[Entry],
    expected: Sequence[int | str] | None = None,
    last_is_whole: bool = True,
) -> dict[int, int]:
    """Return the number of examples per epoch if no id is repeated or missing in any of them.

    Args:
        entries: A committed trajectory.
        expected: The ids of one epoch; default: those of the first one.
        last_is_whole: Whether the last epoch may not lack any; False for a job that still runs, or
            that ends after a number of steps.

    Raises:
        ValueError: names the epoch, and an id that is repeated, missing or unexpected.
    """
    epochs: dict[int, Counter[int | str]] = {}
    for entry in entries:
        if entry.ids is None:
            raise ValueError(
                "the pipeline yields no ids; wrap its elements in rtj_trainer.data.Tagged"
            )
        epochs.setdefault(entry.epoch, Counter()).update(entry.ids)
    whole = set(expected) if expected is not None else set(epochs.get(0, ()))
    for epoch, counts in epochs.items():
        repeated = next((found for found, count in counts.items() if count > 1), None)
        if repeated is not None:
            raise ValueError(f"epoch {epoch} has id {repeated} {counts[repeated]} times")
        partial = not last_is_whole and epoch == max(epochs)
        different = counts.keys() - whole if partial else counts.keys() ^ whole
        if different:
            raise ValueError(
                f"epoch {epoch} lacks or adds {len(different)} ids, as {min(different)}"
            )
    return {epoch: counts.total() for epoch, counts in epochs.items()}


def main() -> int:
    """Print what a job has committed, as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m rtj_trainer.ledger", description=main.__doc__)
    parser.add_argument("job_dir", type=Path, help="<volume>/<job uid>")
    job_dir: Path = parser.parse_args().job_dir
    try:
        entries = committed_trajectory(job_dir)
        head = _head(JobDirectory(job_dir))
        manifest = read_manifest(JobDirectory(job_dir).commit(head))
        whole = manifest.complete and manifest.target.get("totalSteps") is None
        with_ids = bool(entries) and entries[0].ids is not None
        once = check_each_id_once_per_epoch(entries, last_is_whole=whole) if with_ids else None
    except (OSError, ValueError) as error:
        print(f"{job_dir}: {error}", file=sys.stderr)  # noqa: T201 - a command-line tool
        return 1
    report = {
        "commit": str(head),
        "steps": len(entries),
        "complete": manifest.complete,
        "ledgerHash": manifest.ledger_hash,
        "stateSha256": manifest.state_sha256,
        "examplesPerEpoch": once,
    }
    print(json.dumps(report))  # noqa: T201 - a command-line tool
    return 0


if __name__ == "__main__":
    sys.exit(main())
