"""The ledger tells the committed history of examples, and notices when it cannot."""

import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rtj_trainer import ledger
from rtj_trainer.commits import attempts
from rtj_trainer.commits.attempts import StartRecord
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import Manifest
from rtj_trainer.commits.writer import write_commit
from rtj_trainer.ledger import (
    Entry,
    LedgerWriter,
    committed_trajectory,
    trajectory,
)

from tests.unit.trainer.support import check_each_id_once_per_epoch

pytestmark = pytest.mark.unit


def entry(step: int) -> Entry:
    return Entry(step, (step - 1) // 3, (step, step * 2), None)


@pytest.fixture
def job(tmp_path: Path) -> JobDirectory:
    """Attempt 1 took 5 steps and committed 3; attempt 2 went on from there to 6."""
    directory = JobDirectory(tmp_path)
    directory.create()
    attempt(directory, 1, None, range(1, 6), commits={3})
    attempt(directory, 2, CommitId(3, 1), range(4, 7), commits={6})
    return directory


def attempt(
    job: JobDirectory, number: int, parent: CommitId | None, steps: range, commits: set[int]
) -> None:
    attempts.create_fence(job, number, "pod")
    attempts.write_start_record(job, StartRecord(number, parent))
    previous = {} if parent is None else {"rolling_hash": _hash_of(range(1, parent.step + 1))}
    writer = LedgerWriter(job.ledger_segment(number), **previous)
    for step in steps:
        writer.append(entry(step))
        if step in commits:
            writer.flush()
            manifest = Manifest(
                step=step,
                epoch=0,
                step_in_epoch=0,
                samples=0,
                attempt=number,
                parent=None,
                time=datetime.now(UTC),
                strategy="index",
                fingerprint={},
                ledger_hash=writer.rolling_hash,
                state_sha256="",
                target={},
            )
            write_commit(job, CommitId(step, number), lambda folder, made=manifest: made)
    writer.flush()


def _hash_of(steps: range) -> str:
    writer = LedgerWriter(Path(os.devnull))
    for step in steps:
        writer.append(entry(step))
    return writer.rolling_hash


def test_the_trajectory_leaves_out_what_was_trained_and_lost(job: JobDirectory) -> None:
    assert committed_trajectory(job.root) == [entry(step) for step in range(1, 7)]


def test_a_commit_outside_of_the_lineage_has_one_too(job: JobDirectory) -> None:
    attempt(job, 3, CommitId(3, 1), range(4, 6), commits={5})
    for step, number in [(6, 2), (5, 3)]:
        steps = trajectory(job, CommitId(step, number), _hash_of(range(1, step + 1)))
        assert list(steps) == [entry(found) for found in range(1, step + 1)]


def test_a_torn_last_line_is_no_matter(job: JobDirectory) -> None:
    with job.ledger_segment(2).open("ab") as segment:
        segment.write(b'{"step":7,"ep')
    assert len(committed_trajectory(job.root)) == 6


def test_a_changed_line_is_noticed(job: JobDirectory) -> None:
    path = job.ledger_segment(1)
    path.write_bytes(path.read_bytes().replace(b"[2,4]", b"[2,5]"))
    with pytest.raises(ValueError, match="among steps 1 to 3 a line is not what was trained on"):
        committed_trajectory(job.root)


def test_a_line_that_is_no_line_is_named(job: JobDirectory) -> None:
    path = job.ledger_segment(2)
    path.write_bytes(path.read_bytes().replace(b'{"step":5', b'{"stop":5'))
    with pytest.raises(ValueError, match=r"000002.jsonl: the line of step 5 is damaged"):
        committed_trajectory(job.root)


def test_a_missing_line_is_noticed(job: JobDirectory) -> None:
    path = job.ledger_segment(1)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(ValueError, match="has step 2 instead of 1"):
        committed_trajectory(job.root)


def test_a_segment_that_ends_too_early_is_noticed(job: JobDirectory) -> None:
    path = job.ledger_segment(2)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match="ends at step 4 instead of 6"):
        committed_trajectory(job.root)


def test_lines_that_could_not_be_written_are_written_later(tmp_path: Path) -> None:
    folder = tmp_path / "not-yet"
    writer = LedgerWriter(folder / "000001.jsonl")
    writer.append(entry(1))
    with pytest.raises(FileNotFoundError):
        writer.flush()
    folder.mkdir()
    writer.append(entry(2))
    writer.flush()
    lines = (folder / "000001.jsonl").read_bytes().splitlines(keepends=True)
    assert [Entry.parse(line) for line in lines] == [entry(1), entry(2)]


def test_a_failed_fsync_costs_neither_lines_nor_what_a_fork_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "000001.jsonl"
    path.write_bytes(entry(1).line())
    writer = LedgerWriter(path)
    for step in (2, 3):
        writer.append(entry(step))
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", lambda file, step=step: dropping(file, path, step))
            with pytest.raises(OSError, match="No space left"):
                writer.flush()
    writer.append(entry(4))
    writer.flush()
    writer.append(entry(5))
    writer.flush()
    lines = path.read_bytes().splitlines(keepends=True)
    assert [Entry.parse(line) for line in lines] == [entry(step) for step in range(1, 6)]


def dropping(descriptor: int, path: Path, step: int) -> None:
    """Fail as an fsync of a ledger of so many steps that loses all but the first line."""
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return
    size = os.fstat(descriptor).st_size
    assert size == len(b"".join(entry(found).line() for found in range(1, step + 1)))
    os.truncate(path, len(entry(1).line()))
    os.truncate(path, size)
    raise OSError(errno.ENOSPC, "No space left on device")


def test_lines_are_written_between_commits_as_well_and_again_if_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_WRITE_BEHIND", 100)
    folder = tmp_path / "not-yet"
    writer = LedgerWriter(folder / "000001.jsonl")
    for step in range(1, 9):
        writer.append(entry(step))
    folder.mkdir()
    for step in range(9, 21):
        writer.append(entry(step))
    assert len((folder / "000001.jsonl").read_bytes().splitlines()) > 8
    writer.flush()
    lines = (folder / "000001.jsonl").read_bytes().splitlines(keepends=True)
    assert [Entry.parse(line) for line in lines] == [entry(step) for step in range(1, 21)]


@pytest.mark.parametrize(
    ("second_epoch", "words"),
    [
        ((1, 2, 2), r"epoch 1 has id 2 2 times, at steps \[2, 2\]"),
        ((1, 2), "epoch 1 lacks 1 ids, as 3"),
        ((1, 2, 3, 4), "epoch 1 adds 1 ids, as 4 at step 2"),
    ],
)
def test_a_repeated_or_missing_example_is_named(second_epoch: tuple[int, ...], words: str) -> None:
    entries = [Entry(1, 0, (1, 2, 3), None), Entry(2, 1, second_epoch, None)]
    with pytest.raises(ValueError, match=words):
        check_each_id_once_per_epoch(entries, range(1, 4))


def test_an_unfinished_last_epoch_may_lack_examples_but_not_repeat_them() -> None:
    entries = [Entry(1, 0, (1, 2, 3), None), Entry(2, 1, (3, 1), None)]
    ids = range(1, 4)
    assert check_each_id_once_per_epoch(entries, ids, last_is_whole=False) == {0: 3, 1: 2}
    for wrong in ((3, 3), (4,)):
        with pytest.raises(ValueError, match="epoch 1"):
            check_each_id_once_per_epoch(
                [entries[0], Entry(2, 1, wrong, None)], ids, last_is_whole=False
            )


def test_each_epoch_may_lack_just_as_many_as_it_drops() -> None:
    epochs = [Entry(1, 0, (0, 1, 3), None), Entry(2, 1, (2, 4, 0), None)]
    assert check_each_id_once_per_epoch(epochs, range(5), dropped=2) == {0: 3, 1: 3}
    for dropped, words in [
        (1, "epoch 0 lacks 2 ids, as 2, but it drops 1 only"),
        (3, "epoch 0 lacks 2 ids, but it drops 3"),
    ]:
        with pytest.raises(ValueError, match=words):
            check_each_id_once_per_epoch(epochs, range(5), dropped=dropped)


def test_each_example_once_per_epoch_is_counted() -> None:
    entries = [Entry(1, 0, (3, 1), None), Entry(2, 0, (2,), None), Entry(3, 1, (1, 2, 3), None)]
    assert check_each_id_once_per_epoch(entries, range(1, 4)) == {0: 3, 1: 3}
