"""What a volume can do to a job, with real files, and the trainer's answer to each.

Damage to what is there: go on from the commit before it. A volume that cannot be written: train on,
say so, try again; fail only where nothing can be begun or ended. Nothing ever starts over silently.
"""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rtj_api.names import ExitCode
from rtj_trainer.commits import lineage
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import CommitDamagedError, read_manifest
from rtj_trainer.errors import PermanentError

from tests.unit.trainer import beats
from tests.unit.trainer.small_volume import empty, fill, mounted
from tests.unit.trainer.support import Job, Kill, MakeJob, Whole, copy_of
from tests.unit.trainer.test_trainer_commits import commit, start

pytestmark = pytest.mark.unit

AFTER_STEP = """
from rtj_trainer.ledger import LedgerWriter
append = LedgerWriter.append
def counted(self, entry):
    append(self, entry)
    if entry.step in ACTIONS:
        ACTIONS[entry.step]()
LedgerWriter.append = counted
"""
UNLISTED = """
import errno
from rtj_trainer.commits.layout import JobDirectory
commit_ids = JobDirectory.commit_ids
def failing(self):
    raise OSError(errno.EIO, "Input/output error")
def let(function):
    JobDirectory.commit_ids = function
ACTIONS = {8: lambda: let(failing), 22: lambda: let(commit_ids)}
"""
TOLD = """
from tests.unit.trainer import beats
beats.keep_in(Path({path!r}))
def fill_after(commit):
    # One that is still written would fail and make room, and so would what it has deleted.
    beats.wait_for(commit)
    fill(VOLUME)
def empty_once_told():
    beats.wait_for("CommitSkipped")
    empty(VOLUME)
"""
DROPPED_PAGES = """
# A server that is full says so at the fsync, and its client drops the pages.
import errno, os
fsync, durable, failures = os.fsync, {}, []
def failing(descriptor):
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if path.endswith(".jsonl"):
        size = os.fstat(descriptor).st_size
        if durable.get(path) and not failures:
            failures.append(path)
            os.truncate(path, durable[path])
            os.truncate(path, size)
            raise OSError(errno.ENOSPC, "No space left on device")
        durable[path] = size
    fsync(descriptor)
os.fsync = failing
"""


def patch(job: Job, source: str) -> None:
    path = job.folder / f"patch{len(job.patches)}.py"
    path.write_text(source)
    job.patches.append(path)


def act(volume: Path, actions: str) -> str:
    """Return a patch that does something to the volume after some steps."""
    return (
        "from pathlib import Path\nfrom tests.unit.trainer.small_volume import empty, fill\n"
        f"VOLUME = Path({str(volume)!r})\nACTIONS = {actions}\n{AFTER_STEP}"
    )


@pytest.fixture(scope="module")
def stopped_job(make_job: MakeJob) -> Job:
    """A job with commits at steps 5, 10 and 12."""
    job = make_job(datasetFunction="shuffled")
    assert job.run(Kill("step", 12, "SIGTERM")) == ExitCode.PREEMPTED
    assert [found.step for found in job.directory.commit_ids()] == [5, 10, 12]
    return job


@pytest.fixture
def stopped(stopped_job: Job, tmp_path: Path) -> Job:
    """A copy of it."""
    return copy_of(stopped_job, tmp_path)


@pytest.fixture
def directory(stopped: Job) -> JobDirectory:
    return stopped.directory


def missing(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


def of_another_commit(path: Path) -> None:
    if path.name == "generators.json":  # the same in all: nothing draws from them
        path.write_text("{}")
        return
    shutil.copy(path.parents[1] / str(CommitId(5, 1)) / path.name, path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [missing, truncated, emptied, grown, flipped, of_another_commit, a_folder]
)
def test_damage_to_any_file_of_a_commit_means_going_on_from_the_one_before(
    damage: Callable[[Path], None], stopped_job: Job, directory: JobDirectory
) -> None:
    newest = CommitId(12, 1)
    names = sorted(path.name for path in directory.commit(newest).iterdir())
    assert len(names) >= 6
    for name in names:
        damage(directory.commit(newest) / name)
        choice = lineage.choose(directory, 2, expected_step=12)
        assert choice.commit_id == CommitId(10, 1), name
        assert [name in found.why for found in choice.rejected] == [True]
        shutil.rmtree(directory.commit(newest))
        shutil.copytree(stopped_job.directory.commit(newest), directory.commit(newest))
    assert lineage.choose(directory, 2, expected_step=12).commit_id == newest


def test_no_flipped_bit_in_a_manifest_goes_unnoticed(directory: JobDirectory) -> None:
    folder = directory.commit(CommitId(12, 1))
    whole = (folder / "manifest.json").read_bytes()
    original = read_manifest(folder)
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        (folder / "manifest.json").write_bytes(bytes(content))
        try:
            assert read_manifest(folder) == original
        except CommitDamagedError:
            continue


def test_no_flipped_bit_in_a_start_record_changes_the_lineage(directory: JobDirectory) -> None:
    assert start(directory, 2) == CommitId(12, 1)
    record = directory.start_record(2)
    whole = record.read_bytes()
    for place in range(8 * len(whole)):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        record.write_bytes(bytes(content))
        try:
            newest = lineage.candidates(directory, 3)[0]
        except ValueError as error:
            newest, damage = None, str(error)
        assert newest == CommitId(12, 1) or "000002.start.json is damaged" in damage


def test_a_commit_under_the_name_of_another_is_none(directory: JobDirectory) -> None:
    shutil.copytree(directory.commit(CommitId(12, 1)), directory.commit(CommitId(13, 1)))
    choice = lineage.choose(directory, 2, expected_step=12)
    assert choice.commit_id == CommitId(12, 1)
    assert "is of another commit, step 12" in choice.rejected[0].why


def test_a_missing_start_record_is_never_a_start_from_scratch(directory: JobDirectory) -> None:
    directory.fence(2).write_bytes(directory.fence(1).read_bytes())
    directory.start_record(2).write_bytes(directory.start_record(1).read_bytes())
    directory.start_record(1).unlink()
    with pytest.raises(PermanentError, match="does not say where it belongs"):
        lineage.choose(directory, 3, expected_step=0)


def test_a_commit_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    with mounted(tmp_path / "volume", megabytes=1) as volume:
        job = JobDirectory(volume / "uid")
        job.create()
        start(job, 1)
        commit(job, 10, 1)
        for room in range(10):
            fill(volume, room)
            try:
                commit(job, 20, 1)
            except OSError as error:
                caught = error.errno
            else:
                break
            assert caught == errno.ENOSPC
            assert not job.temporary_folders()
            assert lineage.choose(job, 2, expected_step=10).commit_id == CommitId(10, 1)
        assert room > 1
        assert lineage.choose(job, 2, expected_step=20).commit_id == CommitId(20, 1)


def test_foreign_files_are_left_alone(stopped: Job, whole: Whole) -> None:
    job, directory = stopped, stopped.directory
    newest = directory.commit(directory.commit_ids()[-1])
    foreign = [
        directory.root.parent / "lost+found",
        directory.root / "notes.txt",
        directory.attempts / "000009.json.bak",
        directory.commits / ".snapshot",
        directory.commits / "000000000099-000001",
        directory.ledger / "README",
    ]
    for path in [*foreign, newest / ".nfs0000000001"]:
        path.write_text("not ours")
    job.run_to_end()
    assert job.outcome() == whole("shuffled").outcome()
    kept = [path for path in foreign if "000000000099" not in path.name]
    assert all(path.read_text() == "not ours" for path in kept)


def test_a_clock_that_goes_backwards_changes_nothing(stopped: Job, whole: Whole) -> None:
    job = stopped
    patch(
        job,
        "import datetime\n"
        "from rtj_trainer import committer\n"
        "from rtj_trainer.commits import attempts\n"
        "class Behind(datetime.datetime):\n"
        "    @classmethod\n"
        "    def now(cls, zone=None):\n"
        "        return datetime.datetime.now(zone) - datetime.timedelta(days=800)\n"
        "committer.datetime = attempts.datetime = Behind\n",
    )
    before = job.last_manifest.time
    job.run_to_end()
    assert job.outcome() == whole("shuffled").outcome()
    assert job.last_manifest.time < before
    assert "rejected" not in job.log


def test_a_full_volume_costs_commits_and_nothing_else(make_job: MakeJob, whole: Whole) -> None:
    job = make_job(datasetFunction="shuffled")
    volume, told = job.folder / "volume", job.folder / "beats"
    actions = "{8: lambda: fill_after('000000000005-000001'), 22: lambda: empty_once_told()}"
    with mounted(volume, megabytes=2):
        patch(job, act(volume, actions) + TOLD.format(path=str(told)))
        job.run_to_end()
        assert job.outcome() == whole("shuffled").outcome()
    assert "commit at step 10 was skipped: the volume is full" in job.log
    assert "commit at step 15 was skipped: the volume is full" in job.log
    assert "committed 000000000025-000001" in job.log
    warnings = [beat.warning for beat in beats.kept_in(told)]
    warned = next(found for found in warnings if found)
    assert warned.reason == "CommitSkipped"
    assert "was skipped: the volume is full" in warned.message
    assert warnings[-1] is None, "the commits after it are made"


def test_lines_that_a_failed_fsync_dropped_are_written_again(
    make_job: MakeJob, whole: Whole
) -> None:
    job = make_job(datasetFunction="shuffled")
    patch(job, DROPPED_PAGES)
    job.run_to_end(Kill("step", 22))
    assert job.outcome() == whole("shuffled").outcome()
    assert "commit at step 10 was skipped: the volume is full" in job.log


def test_a_folder_that_cannot_be_listed_after_a_commit_costs_nothing(
    make_job: MakeJob, whole: Whole
) -> None:
    best = {"metric": "loss", "mode": "min", "count": 1}
    policy = {"claimName": "claim", "everySteps": 5, "keep": 2, "keepBest": best}
    job = make_job(datasetFunction="shuffled", checkpoint=policy)
    patch(job, UNLISTED + AFTER_STEP)
    job.run_to_end()
    assert job.outcome() == whole("shuffled").outcome()
    words = "could not be {}: [Errno 5] Input/output error"
    for what in ("the best commits " + words.format("found"), words.format("deleted")):
        assert what in job.log
    assert "committed 000000000010-000001" in job.log
    assert "committed 000000000013-000001-epoch" in job.log
    assert not {10, 15, 20} & {found.step for found in job.directory.commit_ids()}


def test_a_volume_that_is_full_at_the_end_fails_the_attempt_and_the_next_ends_the_job(
    make_job: MakeJob, whole: Whole
) -> None:
    job = make_job(datasetFunction="shuffled")
    volume, told = job.folder / "volume", job.folder / "beats"
    actions = "{36: lambda: fill_after('000000000035-000001')}"
    with mounted(volume, megabytes=2):
        patch(job, act(volume, actions) + TOLD.format(path=str(told)))
        assert job.run() == ExitCode.USER_ERROR
        assert job.final_record["reason"] == "VolumeUnusable"
        assert (
            "the final commit at step 39 failed: the volume is full"
            in (job.final_record["message"])
        )
        job.patches.clear()
        assert job.run() == ExitCode.USER_ERROR
        assert job.final_record["reason"] == "VolumeUnusable"
        empty(volume)
        job.run_to_end()
        assert job.outcome() == whole("shuffled").outcome()
    assert "going on from commit 000000000035-000001" in job.log


def test_a_volume_that_fills_during_the_checks_is_not_blamed_on_the_pipeline(
    make_job: MakeJob,
) -> None:
    job = make_job(datasetFunction="shuffled", modelFunction="small_model")
    volume = job.folder / "volume"
    with mounted(volume, megabytes=1):
        patch(
            job,
            act(volume, "{}") + "from rtj_trainer import pipeline\nprobe = pipeline.probe\n"
            "def full(*args):\n    fill(VOLUME)\n    probe(*args)\npipeline.probe = full\n",
        )
        assert job.run() == ExitCode.USER_ERROR
    assert job.final_record["reason"] == "VolumeUnusable"
    assert "No space left" in job.final_record["message"]


def test_a_volume_that_becomes_read_only_costs_commits_and_nothing_else(
    make_job: MakeJob, whole: Whole
) -> None:
    job = make_job(datasetFunction="shuffled")
    root = job.directory.root
    remount = (
        "import subprocess, time\n"
        "def mount(*options):\n"
        f"    subprocess.run(['mount', *options, {str(root)!r}], check=True)\n"
        "def read_only():\n"
        f"    mount('--bind', {str(root)!r})\n"
        "    while True:  # busy while a commit is being written\n"
        "        try:\n"
        "            return mount('-o', 'remount,bind,ro')\n"
        "        except subprocess.CalledProcessError:\n"
        "            time.sleep(0.05)\n"
        f"def normal():\n    subprocess.run(['umount', '-l', {str(root)!r}], check=True)\n"
        "ACTIONS = {8: read_only, 22: normal}\n"
    )
    with mounted(job.folder / "volume", megabytes=8):
        patch(job, remount + AFTER_STEP)
        job.run_to_end()
        assert job.outcome() == whole("shuffled").outcome()
    assert "commit at step 10 was skipped: the volume cannot be written" in job.log
    assert "Read-only file system" in job.log
    assert "committed 000000000025-000001" in job.log


def test_a_volume_that_is_read_only_from_the_start_is_named(
    make_job: MakeJob,
) -> None:
    job = make_job()
    with mounted(job.folder / "volume", megabytes=1) as volume:
        subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)
        assert job.run() == ExitCode.USER_ERROR
    assert job.final_record["reason"] == "VolumeUnusable"
    assert "Read-only file system" in job.final_record["message"]
