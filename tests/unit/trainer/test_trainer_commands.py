"""The commands for a volume, on real folders.

Processes as a user starts them show that output and exit codes leave them; tables of what they are
call the command.
"""

import json
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from rtj_api.names import ExitCode
from rtj_trainer.__main__ import run_command
from rtj_trainer.commits import attempts
from rtj_trainer.commits.attempts import StartRecord
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import EpochSize, Manifest
from rtj_trainer.commits.writer import write_commit
from rtj_trainer.inspection.survey import check_ledger
from rtj_trainer.ledger import EMPTY_HASH, Entry, LedgerWriter

pytestmark = pytest.mark.unit

BATCHES_PER_EPOCH = 3


def attempt(
    job: JobDirectory,
    number: int,
    parent: CommitId | None,
    steps: range,
    commits: set[int],
    rolling_hash: str = EMPTY_HASH,
) -> dict[int, str]:
    """Write what an attempt writes; return the hash of the ledger at each of its commits."""
    attempts.create_fence(job, number, f"pod-{number}")
    attempts.write_start_record(job, StartRecord(number, parent))
    writer = LedgerWriter(job.ledger_segment(number), rolling_hash)
    hashes: dict[int, str] = {}
    for step in steps:
        epoch, batch = divmod(step - 1, BATCHES_PER_EPOCH)
        writer.append(Entry(step, epoch, (2 * batch, 2 * batch + 1), None))
        if step not in commits:
            continue
        writer.flush()
        hashes[step] = writer.rolling_hash
        manifest = Manifest(
            step=step,
            epoch=epoch,
            step_in_epoch=batch + 1,
            samples=2 * step,
            attempt=number,
            parent=None,
            time=datetime(2026, 5, 4, 12, tzinfo=UTC),
            strategy="index",
            fingerprint={},
            ledger_hash=writer.rolling_hash,
            state_sha256="ab" * 32,
            epoch_size=places(6),
            complete=step == 2 * BATCHES_PER_EPOCH,
            target={"epochs": 2, "totalSteps": None},
        )
        write_commit(job, CommitId(step, number), partial(write_state, manifest))
    writer.flush()
    return hashes


def write_state(manifest: Manifest, folder: Path) -> Manifest:
    (folder / "state.data").write_bytes(b"weights " * 1000)
    return manifest


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A job of 2 epochs of 3 batches.

    Attempt 1 was cut off after step 2. It went on to step 5 while attempt 2 went on from step 2,
    and ended the job.
    """
    job = JobDirectory(tmp_path / "volume" / "job-a")
    job.create()
    (job.root.parent / "lost+found").mkdir()
    hashes = attempt(job, 1, None, range(1, 6), commits={2, 4})
    attempt(job, 2, CommitId(2, 1), range(3, 7), {4, 6}, hashes[2])
    return job.root.parent


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rtj_trainer", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Do as `run`, in this process; return exit code and output."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        code = run_command([str(argument) for argument in arguments])
        return code, capsys.readouterr().out

    return run


def job_in(document: str) -> dict[str, Any]:
    (job,) = json.loads(document)["jobs"]
    found: dict[str, Any] = job
    return found


def test_without_arguments_and_outside_of_a_pod_the_tools_are_named() -> None:
    done = run()
    assert done.returncode == ExitCode.PERMANENT
    assert "RTJ_CONFIG is not set: the operator sets it in a job's pod" in done.stdout
    assert "python -m rtj_trainer --help" in done.stdout


@pytest.mark.parametrize("command", [["inspect"], ["ledger", "check"]])
def test_the_help_tells_the_default_of_the_output(command: list[str]) -> None:
    assert "default: text" in run(*command, "--help").stdout


def test_inspect_shows_attempts_commits_and_the_ledger_of_a_job(volume: Path) -> None:
    done = run("inspect", volume)
    assert done.returncode == 0, done.stdout + done.stderr
    words = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "goes on from 000000000006-000002" in words
    assert any(line.endswith("pod-1 from step 0") for line in words)
    assert any(line.endswith("pod-2 from 000000000002-000001") for line in words)
    assert [line.split()[0] for line in words if "verified" in line] == [
        "000000000006-000002",
        "000000000004-000002",
        "000000000002-000001",
        "000000000004-000001",
    ]
    assert (
        "ledger: 6 steps up to 000000000006-000002, 2 epochs of 6 examples, each exactly once"
        in words
    )


def test_inspect_tells_a_program_the_same(volume: Path) -> None:
    done = run("inspect", volume / "job-a", "--output", "json")
    assert done.returncode == 0, done.stderr
    job = job_in(done.stdout)
    assert job["uid"] == "job-a"
    assert job["goesOnFrom"] == "000000000006-000002"
    assert [found["startsFrom"] for found in job["attempts"]] == [None, "000000000002-000001"]
    assert [found["size"] > 8000 for found in job["commits"]] == [True] * 4
    assert job["size"] > 32_000
    assert job["ledger"]["examplesPerEpoch"] == {"0": 6, "1": 6}


def test_inspect_names_a_damaged_commit_and_what_the_next_start_does(volume: Path) -> None:
    job = JobDirectory(volume / "job-a")
    (job.commit(CommitId(6, 2)) / "state.data").write_bytes(b"weights!" * 1000)
    (job.commits / "tmp-000000000007-000002").mkdir()
    done = run("inspect", volume)
    assert done.returncode == 1
    assert "DAMAGED: state.data has another content (sha256 differs)" in done.stdout
    assert "goes on from 000000000004-000002" in done.stdout
    assert "left by a killed writer: tmp-000000000007-000002" in done.stdout


def test_inspect_tells_a_commit_that_no_restart_can_reach(volume: Path, command: Command) -> None:
    code, document = command("inspect", volume, "--output", "json")
    assert code == 0
    outside = [found["id"] for found in job_in(document)["commits"] if not found["inLineage"]]
    assert outside == ["000000000004-000001"]


def test_inspect_says_that_a_position_is_lost(volume: Path, command: Command) -> None:
    shutil.rmtree(volume / "job-a" / "attempts")
    (volume / "job-a" / "attempts").mkdir()
    code, document = command("inspect", volume, "--output", "json")
    assert code == 1
    assert "cannot be restored" in job_in(document)["problem"]


def test_inspect_finds_nothing_wrong_with_a_job_that_has_not_committed(
    tmp_path: Path, command: Command
) -> None:
    job = JobDirectory(tmp_path / "job-b")
    job.create()
    attempts.create_fence(job, 1, "pod-1")
    code, text = command("inspect", job.root)
    assert code == 0
    assert "ended before it trained" in text
    assert "nothing committed yet" in text


def test_ledger_check_proves_each_example_once_over_all_attempts(volume: Path) -> None:
    done = run("ledger", "check", volume / "job-a")
    assert done.returncode == 0, done.stdout
    assert "6 steps up to 000000000006-000002" in done.stdout
    assert "2 epochs of 6 examples, each exactly once" in done.stdout
    assert "ab" * 32 in done.stdout


def test_ledger_check_says_where_an_example_was_used_twice(
    tmp_path: Path, command: Command
) -> None:
    job = JobDirectory(tmp_path / "job")
    job.create()
    hashes = attempt(job, 1, None, range(1, 4), commits={2})
    repeated = Entry(3, 0, (0, 4), None)
    attempt(job, 2, CommitId(2, 1), range(0), set())
    writer = LedgerWriter(job.ledger_segment(2), hashes[2])
    writer.append(repeated)
    writer.flush()
    _commit_with(job, CommitId(3, 2), writer.rolling_hash, places(6))
    code, document = command("ledger", "check", job.root, "--output", "json")
    assert code == 1
    assert job_in(document)["problem"] == "epoch 0 has id 0 2 times, at steps [1, 3]"


def places(examples: int, dropped: int = 0) -> EpochSize:
    return EpochSize(examples=examples, dropped=dropped, ids_are_places=True)


def own_names(examples: int) -> EpochSize:
    return EpochSize(examples=examples, dropped=0, ids_are_places=False)


@pytest.mark.parametrize(
    ("size", "epochs", "code", "told"),
    [
        (places(3), [(0, 1, 2), (2, 0, 1)], 0, "2 epochs of 3 examples, each exactly once\n"),
        (places(4), [(0, 1, 2), (2, 0, 1)], 1, "WRONG: epoch 0 lacks 1 ids, as 3"),
        (
            places(4, dropped=1),
            [(0, 1, 2), (2, 3, 1)],
            0,
            "2 epochs of 3 examples, each exactly once but for 1 of 4 that it drops",
        ),
        (places(4, dropped=1), [(0, 1, 2), (2, 3)], 1, "WRONG: epoch 1 lacks 2 ids, as 0"),
        (None, [(0, 1), (1, 0)], 0, "each exactly once if epoch 0 had them all"),
        (None, [(0, 1), (1,)], 3, "NOT PROVEN: epoch 1 lacks 1 ids, as 0, which the builder may"),
        (None, [(0, 0), (0, 0)], 3, "2 epochs of 2 examples; NOT PROVEN: epoch 0 has id 0 2 times"),
        (own_names(2), [(7, 8), (8, 7)], 0, "2 epochs of 2 examples, each exactly once\n"),
        (own_names(3), [(7, 8), (8, 7)], 3, "NOT PROVEN: epoch 0 has 2 different ids instead of 3"),
    ],
)
def test_ledger_check_says_what_it_knows_of_an_epoch(
    size: EpochSize | None,
    epochs: list[tuple[int, ...]],
    code: int,
    told: str,
    tmp_path: Path,
    command: Command,
) -> None:
    job = job_with(tmp_path, size, epochs, complete=True)
    found, text = command("ledger", "check", job.root)
    assert told in text
    assert found == code
    assert command("inspect", job.root)[0] == (1 if code == 1 else 0)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (places(4), "2 of 4 examples of epoch 0, each exactly once\n"),
        (places(4, dropped=1), "2 of 3 examples of epoch 0, each exactly once\n"),
        (own_names(4), "2 of 4 examples of epoch 0, each exactly once\n"),
        (None, "1 epochs of 2 examples, each exactly once if epoch 0 had them all"),
    ],
)
def test_a_first_epoch_that_is_not_over_is_not_called_an_epoch(
    size: EpochSize | None, told: str, tmp_path: Path, command: Command
) -> None:
    job = job_with(tmp_path, size, [(0, 1)], complete=False)
    _, text = command("ledger", "check", job.root)
    assert f"1 steps up to 000000000001-000001, {told}" in text


@pytest.mark.parametrize("size", [places(4), own_names(4), None])
def test_an_epoch_that_is_not_over_may_lack_ids_but_not_repeat_them(
    size: EpochSize | None, tmp_path: Path, command: Command
) -> None:
    for last, code in [((2, 3), 0), ((2, 2), 3 if size != places(4) else 1)]:
        job = job_with(tmp_path / f"{code}", size, [(0, 1, 2, 3), last], complete=False)
        assert command("ledger", "check", job.root)[0] == code


def test_the_ledger_of_many_epochs_needs_no_more_memory_than_that_of_few(tmp_path: Path) -> None:
    def peak(epochs: int) -> int:
        ids = [tuple(range(1000))] * epochs
        job = job_with(tmp_path / f"{epochs}", places(1000), ids, complete=True)
        tracemalloc.start()
        try:
            report = check_ledger(job, strict=True)
            assert report.examples_per_epoch == dict.fromkeys(range(epochs), 1000)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # Loads what is loaded once.
    assert peak(40) < 1.5 * peak(4)


def test_an_epoch_that_goes_on_after_another_is_found(tmp_path: Path) -> None:
    job = job_with(tmp_path, None, [(0,), (0,), (0,)], complete=True, numbers=(0, 1, 0))
    assert check_ledger(job).doubt == "epoch 0 goes on after another has begun"


def job_with(
    folder: Path,
    size: EpochSize | None,
    epochs: list[tuple[int, ...]],
    complete: bool,
    numbers: Sequence[int] | None = None,
) -> JobDirectory:
    """Make a job whose epochs had one batch each; `numbers` counts them otherwise than from 0."""
    job = JobDirectory(folder / "job")
    job.create()
    attempt(job, 1, None, range(0), set())
    writer = LedgerWriter(job.ledger_segment(1))
    for step, (epoch, ids) in enumerate(zip(numbers or count(), epochs, strict=False), 1):
        writer.append(Entry(step, epoch, ids, None))
    writer.flush()
    _commit_with(job, CommitId(len(epochs), 1), writer.rolling_hash, size, complete)
    return job


def _commit_with(
    job: JobDirectory,
    commit_id: CommitId,
    rolling_hash: str,
    size: EpochSize | None,
    complete: bool = False,
) -> None:
    manifest = Manifest(
        step=commit_id.step,
        epoch=0,
        step_in_epoch=commit_id.step,
        samples=0,
        attempt=commit_id.attempt,
        parent=None,
        time=datetime(2026, 5, 4, 12, tzinfo=UTC),
        strategy="index",
        fingerprint={},
        epoch_size=size,
        ledger_hash=rolling_hash,
        state_sha256="",
        complete=complete,
        target={},
    )
    write_commit(job, commit_id, partial(write_state, manifest))


def test_ledger_check_says_between_which_commits_the_ledger_was_changed(
    volume: Path, command: Command
) -> None:
    segment = JobDirectory(volume / "job-a").ledger_segment(2)
    segment.write_bytes(segment.read_bytes().replace(b'"step":4,"epoch":1', b'"step":4,"epoch":0'))
    code, document = command("ledger", "check", volume / "job-a", "--output", "json")
    assert code == 1
    problem = job_in(document)["problem"]
    assert problem.startswith("among steps 3 to 4 a line is not what was trained on")


def test_ledger_check_names_the_segment_that_is_missing(volume: Path, command: Command) -> None:
    JobDirectory(volume / "job-a").ledger_segment(1).unlink()
    code, text = command("ledger", "check", volume / "job-a")
    assert code == 1
    assert "ledger/000001.jsonl: No such file" in text


def test_a_folder_without_jobs_is_a_usage_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        done = run("inspect", folder)
        assert done.returncode == 2
        assert str(folder) in done.stderr
        assert not done.stdout


def test_the_commands_do_not_load_tensorflow(volume: Path) -> None:
    for arguments in (["inspect", str(volume)], ["ledger", "check", str(volume)]):
        script = (
            "import runpy, sys; sys.argv[1:] = " + repr(arguments) + "\n"
            "try: runpy.run_module('rtj_trainer', run_name='__main__')\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
