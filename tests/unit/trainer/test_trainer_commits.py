"""The commit protocol on a real file system, with writers killed at every boundary."""

import gc
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rtj_api.names import Reason
from rtj_trainer import files
from rtj_trainer.commits import attempts, lineage, retention, writer
from rtj_trainer.commits.adoption import adopt
from rtj_trainer.commits.attempts import StartRecord
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import CommitDamagedError, Manifest, verify_commit
from rtj_trainer.commits.writer import write_commit
from rtj_trainer.errors import PermanentError, SupersededError

pytestmark = pytest.mark.unit

BOUNDARIES = (
    "write_file",
    "fsync_file",
    "fsync_directory",
    "create_exclusively",
    "rename_directory",
)


@pytest.fixture
def job(tmp_path: Path) -> JobDirectory:
    directory = JobDirectory(tmp_path / "uid")
    directory.create()
    return directory


def start(job: JobDirectory, attempt: int, expected_step: int = 0) -> CommitId | None:
    """Do what an attempt does before it trains; return the commit that it goes on from."""
    attempts.create_fence(job, attempt, f"pod-{attempt}")
    retention.remove_leftovers(job, attempt)
    choice = lineage.choose(job, attempt, expected_step, lambda found: adopt(job, found, attempt))
    attempts.write_start_record(job, StartRecord(attempt, choice.starts_from))
    return choice.starts_from


def begun_jobs(folder: Path, end: int) -> Iterator[tuple[int, JobDirectory]]:
    """Yield numbers from 1, each with a new job whose first attempt has begun."""
    for count in range(1, end):
        job = JobDirectory(folder / f"{count}")
        job.create()
        start(job, 1)
        yield count, job


def commit(
    job: JobDirectory,
    step: int,
    attempt: int,
    final: bool = False,
    results: dict[str, float] | None = None,
) -> CommitId:
    commit_id = CommitId(step, attempt, final)

    def write_state(folder: Path) -> Manifest:
        (folder / "generators.json").write_bytes(b"{}")
        (folder / "state.data").write_bytes(f"step {step}".encode() * 100)
        return manifest

    manifest = Manifest(
        step=step,
        epoch=0,
        step_in_epoch=step,
        samples=step,
        attempt=attempt,
        parent=None,
        time=datetime.now(UTC),
        strategy="index",
        fingerprint={},
        ledger_hash="",
        state_sha256="",
        target={},
        results=results or {},
    )
    write_commit(job, commit_id, write_state)
    return commit_id


def killed_at(boundary: str, count: int, before: bool, act: Callable[[], object]) -> bool:
    """Run `act` in a process that kills itself at a boundary; return whether it got that far."""
    pid = os.fork()
    if pid == 0:
        # Only this thread is here: what a finalizer would wait for may never come.
        gc.disable()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        original = getattr(files, boundary)
        calls = 0

        def lethal(*args: object) -> object:
            nonlocal calls
            calls += 1
            if before and calls == count:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*args)
            if calls == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(files, boundary, lethal)
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize("count", range(1, 6))
def test_a_folder_that_a_killed_process_made_is_made_durable_by_the_next(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = JobDirectory(tmp_path / "uid")
    assert killed_at("fsync_directory", count, before=True, act=directory.create)
    durable, fsync = set[Path](), files.fsync_directory
    monkeypatch.setattr(files, "fsync_directory", lambda path: (durable.add(path), fsync(path)))
    directory.create()
    assert durable == {directory.root.parent, directory.root}


def test_a_link_whose_answer_was_lost_and_that_was_sent_again_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def sent_twice(source: Path, target: Path) -> None:
        for _ in range(2):
            link(source, target)

    monkeypatch.setattr(os, "link", sent_twice)
    assert files.create_exclusively(tmp_path / "fence", b"mine")
    assert not files.create_exclusively(tmp_path / "fence", b"of another")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"mine"]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_writer_killed_at_any_boundary_leaves_the_old_or_the_new_commit(
    boundary: str, before: bool, tmp_path: Path
) -> None:
    outcomes = set()
    for count, job in begun_jobs(tmp_path, 20):
        commit(job, 10, 1)
        if not killed_at(boundary, count, before, lambda job=job: commit(job, 20, 1)):
            break
        chosen = start(job, 2)
        assert chosen in (CommitId(10, 1), CommitId(20, 1))
        assert not job.temporary_folders()
        outcomes.add(chosen)
    assert outcomes or boundary == "create_exclusively", "never killed"


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_an_attempt_killed_while_it_starts_costs_no_position(
    boundary: str, before: bool, tmp_path: Path
) -> None:
    for count, job in begun_jobs(tmp_path, 20):
        commit(job, 10, 1)
        killed = killed_at(boundary, count, before, lambda job=job: start(job, 2))
        assert start(job, 3) in (CommitId(10, 1), CommitId(10, 2))
        assert not job.temporary_folders()
        if not killed:
            break


def test_what_a_kill_left_of_a_fence_or_a_start_record_goes_with_the_next_attempt(
    job: JobDirectory,
) -> None:
    for attempt, writes, name in [(1, 1, ".000001.json."), (2, 2, ".000002.start.json.")]:
        assert killed_at("write_file", writes, False, lambda number=attempt: start(job, number))
        [left] = job.attempts.glob(".*")
        assert left.name.startswith(name)
    newer = job.attempts / ".000004.json.1.ab"
    newer.touch()
    start(job, 3)
    assert list(job.attempts.glob(".*")) == [newer], "its attempt may be about to begin"


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_deletion_killed_at_any_boundary_spares_the_newest_commits(
    boundary: str, before: bool, tmp_path: Path
) -> None:
    for count, job in begun_jobs(tmp_path, 10):
        for step in (10, 20, 30, 40):
            commit(job, step, 1)
        killed = killed_at(
            boundary, count, before, lambda job=job: retention.delete_old_commits(job, 1, keep=2)
        )
        assert start(job, 2) == CommitId(40, 1)
        verify_commit(job.commit(CommitId(30, 1)))
        if not killed:
            break


def test_a_stale_writer_cannot_commit_after_a_newer_attempt_has_its_fence(
    job: JobDirectory,
) -> None:
    start(job, 1)
    commit(job, 10, 1)
    attempts.create_fence(job, 2, "pod-2")
    with pytest.raises(SupersededError, match="attempt 2 has started"):
        commit(job, 20, 1)
    assert job.commit_ids() == [CommitId(10, 1)]
    assert not job.temporary_folders()


def test_a_stale_writer_that_was_paused_in_its_rename_changes_nothing(
    job: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(job, 1)
    commit(job, 10, 1)
    rename = files.rename_directory

    def paused(source: Path, target: Path) -> None:
        # Attempt 2 takes over after the stale writer looked for a fence, and before it renames.
        monkeypatch.setattr(files, "rename_directory", rename)
        keep_folder = source.with_name("kept")
        shutil.copytree(source, keep_folder)
        assert start(job, 2) == CommitId(10, 1)
        commit(job, 15, 2)
        rename(keep_folder, target)
        raise FileNotFoundError(source)

    monkeypatch.setattr(files, "rename_directory", paused)
    with pytest.raises(FileNotFoundError):
        commit(job, 20, 1)
    assert CommitId(20, 1) in job.commit_ids()
    assert start(job, 3) == CommitId(15, 2)


def test_a_stale_writer_deletes_nothing(job: JobDirectory) -> None:
    start(job, 1)
    for step in (10, 20, 30):
        commit(job, step, 1)
    attempts.create_fence(job, 2, "pod-2")
    with pytest.raises(SupersededError):
        retention.delete_old_commits(job, 1, keep=2)
    assert len(job.commit_ids()) == 3


def test_an_attempt_number_is_taken_once(job: JobDirectory) -> None:
    attempts.create_fence(job, 1, "pod-a")
    with pytest.raises(SupersededError, match="already started by another process"):
        attempts.create_fence(job, 1, "pod-b")
    assert json.loads(job.fence(1).read_text())["podUid"] == "pod-a"


def test_an_old_attempt_that_starts_late_writes_nothing(job: JobDirectory) -> None:
    attempts.create_fence(job, 3, "pod-3")
    before = sorted(job.attempts.iterdir())
    with pytest.raises(SupersededError, match="attempt 3 has started"):
        attempts.create_fence(job, 2, "pod-2")
    assert sorted(job.attempts.iterdir()) == before


def test_an_old_attempt_that_is_overtaken_while_it_chooses_has_no_start_record(
    job: JobDirectory,
) -> None:
    attempts.create_fence(job, 1, "pod-1")
    attempts.create_fence(job, 2, "pod-2")
    with pytest.raises(SupersededError, match="attempt 2 has started"):
        attempts.write_start_record(job, StartRecord(1, None))
    assert attempts.read_start_record(job, 1) is None


def test_an_old_attempt_that_is_overtaken_while_it_takes_its_number_goes_no_further(
    job: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = files.create_exclusively

    def overtaken(path: Path, content: bytes) -> bool:
        monkeypatch.undo()
        attempts.create_fence(job, 3, "pod-3")
        return create(path, content)

    monkeypatch.setattr(files, "create_exclusively", overtaken)
    with pytest.raises(SupersededError, match="attempt 3 has started"):
        attempts.create_fence(job, 2, "pod-2")


def test_attempts_that_never_committed_are_passed_through(job: JobDirectory) -> None:
    start(job, 1)
    commit(job, 10, 1)
    assert start(job, 2) == CommitId(10, 1)
    attempts.create_fence(job, 3, "pod-3")  # killed before it chose
    assert start(job, 4) == CommitId(10, 2)


def test_lineage_goes_back_over_attempts(job: JobDirectory) -> None:
    start(job, 1)
    for step in (10, 20, 30):
        commit(job, step, 1)
    shutil.rmtree(job.commit(CommitId(30, 1)))
    start(job, 2)
    commit(job, 25, 2)
    assert lineage.candidates(job, 3) == [
        CommitId(25, 2),
        CommitId(20, 2),
        CommitId(20, 1),
        CommitId(10, 1),
    ]


def damage_missing(folder: Path) -> None:
    (folder / "state.data").unlink()


def damage_truncated(folder: Path) -> None:
    os.truncate(folder / "state.data", 10)


def damage_bit(folder: Path) -> None:
    content = bytearray((folder / "state.data").read_bytes())
    content[7] ^= 1
    (folder / "state.data").write_bytes(bytes(content))


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def damage_no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_missing, "state.data cannot be read"),
        (damage_truncated, "state.data has 10 bytes instead of 700"),
        (damage_bit, "state.data has another content"),
        (damage_manifest, "manifest.json is not valid"),
        (damage_no_manifest, "manifest.json cannot be read"),
    ],
)
def test_a_damaged_commit_is_passed_over_with_the_reason(
    damage: Callable[[Path], None], words: str, job: JobDirectory
) -> None:
    start(job, 1)
    commit(job, 10, 1)
    commit(job, 20, 1)
    assert lineage.choose(job, 2, expected_step=20).commit_id == CommitId(20, 1)
    damage(job.commit(CommitId(20, 1)))
    with pytest.raises(CommitDamagedError):
        verify_commit(job.commit(CommitId(20, 1)))
    choice = lineage.choose(job, 2, expected_step=20)
    assert choice.commit_id == CommitId(10, 1)
    assert words in choice.rejected[0].why


def test_a_commit_that_was_gone_on_from_is_missed_when_it_is_gone(job: JobDirectory) -> None:
    start(job, 1)
    commit(job, 10, 1)
    commit(job, 20, 1)
    assert start(job, 2) == CommitId(20, 1)
    for attempt in (1, 2):
        shutil.rmtree(job.commit(CommitId(20, attempt)))
    choice = lineage.choose(job, 3, expected_step=20)
    assert choice.commit_id == CommitId(10, 1)
    assert [item.commit_id for item in choice.rejected] == [CommitId(20, 1)]
    assert "manifest.json cannot be read" in choice.rejected[0].why


def test_a_position_is_lost_when_no_commit_verifies(job: JobDirectory) -> None:
    start(job, 1)
    damage_bit(job.commit(commit(job, 10, 1)))
    with pytest.raises(PermanentError, match="none of 1 commits verifies") as caught:
        start(job, 2)
    assert caught.value.reason == Reason.POSITION_LOST


@pytest.mark.parametrize("wrong", ["", "{}", '{"startsFrom": "x"}', '{"startsFrom": 3}'])
def test_a_damaged_start_record_is_never_a_start_from_scratch(
    wrong: str, job: JobDirectory
) -> None:
    start(job, 1)
    job.start_record(1).write_text(wrong)
    with pytest.raises(PermanentError, match=r"000001.start.json is damaged"):
        start(job, 2)


def test_commits_without_any_attempt_are_never_a_start_from_scratch(job: JobDirectory) -> None:
    start(job, 1)
    commit(job, 10, 1)
    shutil.rmtree(job.attempts)
    job.create()
    with pytest.raises(PermanentError, match="does not say where it belongs"):
        start(job, 2)


def test_retention_keeps_the_newest_and_drops_dead_branches(job: JobDirectory) -> None:
    start(job, 1)
    for step in (10, 20, 30):
        commit(job, step, 1)
    damage_bit(job.commit(CommitId(30, 1)))
    assert start(job, 2) == CommitId(20, 1)
    commit(job, 30, 2)
    retention.delete_old_commits(job, 2, keep=2)
    assert job.commit_ids() == [CommitId(20, 1), CommitId(20, 2), CommitId(30, 2)]


def test_one_commit_of_every_so_many_steps_is_kept_for_good(job: JobDirectory) -> None:
    start(job, 1)
    for step in (4, 9, 12, 16, 20, 25):
        commit(job, step, 1)
        retention.delete_old_commits(job, 1, keep=2, every_steps=10)
    assert [found.step for found in job.commit_ids()] == [12, 20, 25]
    assert start(job, 2) == CommitId(25, 1)
    for step in (29, 30, 33, 37, 47):
        commit(job, step, 2)
        retention.delete_old_commits(job, 2, keep=2, every_steps=10)
    assert [found.step for found in job.commit_ids()] == [12, 20, 30, 37, 47]


def test_nothing_is_deleted_while_the_newest_commit_does_not_verify(job: JobDirectory) -> None:
    start(job, 1)
    for step in (10, 20, 30):
        commit(job, step, 1)
    damage_bit(job.commit(CommitId(30, 1)))
    assert retention.delete_old_commits(job, 1, keep=2) == []
    assert len(job.commit_ids()) == 3


def test_a_commit_that_was_just_written_is_read_back_only_if_no_other_stays(
    job: JobDirectory,
) -> None:
    start(job, 1)
    for step in (10, 20, 30):
        commit(job, step, 1)
    damage_bit(job.commit(CommitId(30, 1)))
    assert retention.delete_old_commits(job, 1, keep=1, written=CommitId(30, 1)) == []
    deleted = retention.delete_old_commits(job, 1, keep=2, written=CommitId(30, 1))
    assert deleted == [CommitId(10, 1)]
    assert start(job, 2) == CommitId(20, 1)


def test_the_final_commit_comes_after_one_of_the_same_step(job: JobDirectory) -> None:
    start(job, 1)
    commit(job, 10, 1)
    commit(job, 10, 1, final=True)
    assert start(job, 2) == CommitId(10, 1, final=True)
    damage_bit(job.commit(CommitId(10, 1, final=True)))
    assert start(job, 3) == CommitId(10, 1)


def test_the_commit_that_an_attempt_started_from_outlives_its_first_own_commit(
    job: JobDirectory,
) -> None:
    start(job, 1)
    commit(job, 10, 1)
    start(job, 2)
    assert retention.delete_old_commits(job, 2, keep=2) == []
    commit(job, 20, 2)
    retention.delete_old_commits(job, 2, keep=2)
    assert CommitId(10, 1) in job.commit_ids()


def test_a_writer_that_sees_no_fence_cannot_take_its_successors_commit_away(
    job: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(job, 1)
    commit(job, 10, 1)
    assert start(job, 2) == CommitId(10, 1)
    with monkeypatch.context() as blind:
        for module in (writer, retention):
            blind.setattr(module, "check_fence", lambda job, attempt: None)
        for step in (20, 30, 40):
            commit(job, step, 1)
            retention.delete_old_commits(job, 1, keep=1)
    assert job.commit_ids() == [CommitId(10, 2), CommitId(40, 1)]
    verify_commit(job.commit(CommitId(10, 2)))
    commit(job, 11, 2)
    retention.delete_old_commits(job, 2, keep=2)
    assert start(job, 3) == CommitId(11, 2)
    assert job.commit_ids() == [CommitId(10, 2), CommitId(11, 2), CommitId(11, 3)]


def test_a_commit_that_goes_while_it_is_taken_gives_way_to_a_newer_one(job: JobDirectory) -> None:
    start(job, 1)
    commit(job, 10, 1)
    commit(job, 20, 1)
    moved: list[CommitId] = []

    def hold(commit_id: CommitId) -> Manifest:
        if not moved:
            moved.append(commit_id)
            commit(job, 30, 1)
            shutil.rmtree(job.commit(commit_id))
        return adopt(job, commit_id, 2)

    choice = lineage.choose(job, 2, 20, hold)
    assert moved == [CommitId(20, 1)]
    assert (choice.starts_from, choice.commit_id) == (CommitId(30, 1), CommitId(30, 2))


def test_a_failed_write_leaves_no_folder_behind(
    job: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(job, 1)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "fsync_file", full)
    with pytest.raises(OSError, match="No space left"):
        commit(job, 10, 1)
    assert not job.temporary_folders()
    assert not job.commit_ids()
