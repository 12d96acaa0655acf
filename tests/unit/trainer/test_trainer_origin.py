"""Going back to a chosen commit, and forking: exactly once, and exactly there.

The jobs are those of `test_trainer_exactness`: 3 epochs of 13 batches, a commit every 5 steps.
"""

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rtj_api.launch import TrainerConfig
from rtj_api.names import ExitCode
from rtj_trainer.commits import attempts
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import read_manifest
from rtj_trainer.inspection.survey import inspect_job
from rtj_trainer.ledger import committed_trajectory
from rtj_trainer.origin import Start, find_start

from tests.unit.trainer import beats
from tests.unit.trainer.support import (
    BUILDERS,
    Job,
    Kill,
    MakeJob,
    Whole,
    check_each_id_once_per_epoch,
    copy_of,
    fork,
)

pytestmark = pytest.mark.unit

TERM = "SIGTERM"
CHOSEN = "000000000010-000001"
MODELS = {"shuffled": "build_model", "by_index": "small_model"}
"""Of the jobs of each dataset: all kinds of state go back, and are copied, with the one."""


def back(commit: str = CHOSEN, request: int = 2) -> dict[str, Any]:
    """Return the request to go back to a commit."""
    return {"restore": {"request": request, "commit": commit}}


@pytest.fixture(scope="module")
def stopped(make_job: MakeJob) -> Any:
    """Return a job that was stopped at a step; it is not to be changed, but copied or forked."""

    @cache
    def run(dataset: str, step: int = 17) -> Job:
        job = make_job(datasetFunction=dataset, modelFunction=MODELS[dataset])
        assert job.run(Kill("step", step, TERM)) == ExitCode.PREEMPTED
        return job

    return run


@pytest.fixture
def stopped_at_22(stopped: Any, tmp_path: Path) -> Job:
    """Its commits are those of steps 10, 15, 20 and 22."""
    return copy_of(stopped("by_index", 22), tmp_path)


def answers(job: Job) -> dict[int, tuple[str, str]]:
    """Return what each attempt's start record says: where it started, and the answer."""
    found = {}
    for number in job.directory.fenced_attempts():
        record = attempts.read_start_record(job.directory, number)
        if record:
            reason = record.answer.reason if record.answer else ""
            found[number] = (str(record.starts_from), str(reason))
    return found


class TestGoingBack:
    """A request to go back to an older commit of the job itself."""

    @pytest.mark.parametrize("dataset", ["shuffled", "by_index"])
    def test_a_job_that_goes_back_ends_as_if_it_had_never_gone_on(
        self, dataset: str, stopped: Any, whole: Whole, tmp_path: Path
    ) -> None:
        job = copy_of(stopped(dataset, 22), tmp_path)
        assert job.run(**back(), expectedStep=22) == ExitCode.COMPLETED
        assert job.outcome() == whole(dataset, model=MODELS[dataset]).outcome()
        trajectory = job.outcome()[2]
        assert check_each_id_once_per_epoch(trajectory, range(100)) == {0: 100, 1: 100, 2: 100}
        assert answers(job)[2] == (CHOSEN, "Restored")
        assert "although step 22 was committed" not in job.log

    def test_one_request_goes_back_once_however_often_it_is_repeated(
        self, stopped_at_22: Job, whole: Whole
    ) -> None:
        job = stopped_at_22
        assert job.run(Kill("start-record", before=True), **back()) == -9
        assert job.run(Kill("retention", before=True), **back()) == -9
        assert job.run(Kill("step", 4, TERM), **back()) == ExitCode.PREEMPTED
        assert answers(job) == {
            1: ("None", ""),
            3: (CHOSEN, "Restored"),
            4: ("000000000015-000003", "Restored"),
        }
        assert job.last_manifest.step == 19
        assert len(committed_trajectory(job.directory.root)) == 19
        job.run_to_end()
        assert job.outcome() == whole("by_index", model="small_model").outcome()

    def test_another_request_for_the_same_commit_goes_back_again(self, stopped_at_22: Job) -> None:
        job = stopped_at_22
        job.config["checkpoint"]["keep"] = 9
        job.run(Kill("step", 8, TERM), **back())
        job.run(Kill("step", 3, TERM), **back(request=5))
        assert answers(job)[3] == (CHOSEN, "Restored")
        assert len(committed_trajectory(job.directory.root)) == 13

    def test_the_oldest_commit_that_a_user_was_shown_outlives_the_stop(
        self, stopped_at_22: Job
    ) -> None:
        steps = [found.step for found in stopped_at_22.directory.commit_ids()]
        assert steps[-4:] == [10, 15, 20, 22]

    def test_a_commit_that_is_not_there_is_refused_and_nothing_is_lost(
        self, stopped_at_22: Job, whole: Whole
    ) -> None:
        job = stopped_at_22
        assert job.run(Kill("step", 3, TERM), **back("000000000006-000001")) == ExitCode.PREEMPTED
        assert (
            "spec.restore.fromCommit '000000000006-000001': this job has no such commit; there "
            "are: 000000000022-000001, 000000000020-000001, 000000000015-000001, "
            "000000000010-000001" in job.log
        )
        assert "Going on from 000000000022-000001 instead" in job.log
        assert answers(job)[2] == ("000000000022-000001", "CommitNotFound")
        job.config |= back("000000000006-000001")
        warned = job.log.count("Going on from")
        job.run_to_end()
        assert job.log.count("Going on from") == warned
        assert job.outcome() == whole("by_index", model="small_model").outcome()

    def test_a_damaged_commit_is_refused_with_the_file(self, stopped_at_22: Job) -> None:
        job = stopped_at_22
        (job.directory.commit(CommitId(10, 1)) / "state.safetensors").write_bytes(b"x")
        assert job.run(Kill("step", 1, TERM), **back()) == ExitCode.PREEMPTED
        assert "this commit is damaged (state.safetensors" in job.log
        assert answers(job)[2] == ("000000000022-000001", "CommitDamaged")

    def test_a_new_job_has_nothing_to_go_back_to(self, make_job: MakeJob) -> None:
        job = make_job(datasetFunction="by_index", modelFunction="small_model")
        assert job.run(**back()) == ExitCode.PERMANENT
        assert job.final_record["reason"] == "CommitNotFound"
        assert "spec.forkFrom" in job.final_record["message"]

    def test_each_commit_that_is_named_can_be_gone_back_to_and_forked(
        self, stopped: Any, tmp_path: Path
    ) -> None:
        job = copy_of(stopped("by_index"), tmp_path / "job")
        names = job.directory.newest_commits(20)
        for _ in range(3):
            assert job.run(Kill("start-record", before=True)) == -9
            assert job.directory.newest_commits(20) == names
        assert CommitId(17, 4) in job.directory.commit_ids()
        for number, name in enumerate(names):
            volume = shutil.copytree(job.directory.root.parent, tmp_path / str(number))
            start = start_of(job, volume, "uid", **back(name))
            assert start.record.answer
            assert start.record.answer.reason == "Restored"
            request = {"jobUid": "uid", "commit": name}
            start = start_of(job, volume, "forked", forkFrom=request)
            assert start.choice.manifest
            assert start.choice.manifest.step == int(name[:12])
        job.run_to_end()
        assert {found.attempt for found in job.directory.commit_ids()} <= {1, 5}


def start_of(job: Job, volume: Path, uid: str, **changes: Any) -> Start:
    """Return what the next attempt of a job would start from, with a copy of its volume."""
    number = job.attempts + 1
    fields = {"volume": volume, "jobUid": uid, "attempt": number, **changes}
    config = TrainerConfig.model_validate(job.config | fields)
    directory = JobDirectory(volume / uid)
    directory.create()
    attempts.create_fence(directory, number, "pod")
    return find_start(config, directory)


def other(job: Job) -> JobDirectory:
    """Return the folder of the job that was forked."""
    return JobDirectory(job.folder / "volume" / "other")


def contents(folder: JobDirectory) -> dict[str, bytes]:
    """Return every file of a job."""
    return {
        str(path.relative_to(folder.root)): path.read_bytes()
        for path in folder.root.rglob("*")
        if path.is_file()
    }


class TestForking:
    """A new job from another job's commit."""

    @pytest.mark.parametrize(("dataset", "commit"), [("shuffled", CHOSEN), ("by_index", "latest")])
    def test_a_fork_with_more_epochs_ends_like_one_long_run(
        self, dataset: str, commit: str, make_job: MakeJob, whole: Whole, stopped: Any
    ) -> None:
        job = fork(make_job, stopped(dataset), commit, epochs=4)
        before = contents(other(job))
        job.run_to_end(Kill("step", 8))
        assert job.outcome() == whole(dataset, 4, MODELS[dataset]).outcome()
        assert contents(other(job)) == before
        shutil.rmtree(other(job).root)
        assert len(committed_trajectory(job.directory.root)) == 52

    def test_a_complete_job_can_be_forked_to_go_on(self, make_job: MakeJob, whole: Whole) -> None:
        job = fork(make_job, whole("shuffled"), epochs=4)
        job.run_to_end()
        assert job.outcome() == whole("shuffled", 4).outcome()

    def test_a_fork_of_what_is_complete_already_is_complete(
        self, make_job: MakeJob, whole: Whole
    ) -> None:
        job = fork(make_job, whole("by_index", model="small_model"))
        told, patch = job.folder / "beats", job.folder / "patch.py"
        patch.write_text(
            "from pathlib import Path\nfrom tests.unit.trainer import beats\n"
            f"beats.keep_in(Path({str(told)!r}))\n"
        )
        job.patches.append(patch)
        assert job.run() == ExitCode.COMPLETED
        assert beats.kept_in(told)[-1].commits == ["000000000039-000001"]
        assert (
            committed_trajectory(job.directory.root)
            == whole("by_index", model="small_model").outcome()[2]
        )

    def test_its_first_manifest_says_where_it_comes_from(
        self, make_job: MakeJob, stopped: Any
    ) -> None:
        job = fork(make_job, stopped("by_index"), CHOSEN)
        job.run(Kill("start-record"))
        manifest = read_manifest(job.directory.commit(CommitId(10, 1)))
        assert manifest.origin
        assert (manifest.origin.job_uid, manifest.origin.commit) == ("other", CHOSEN)

    @pytest.mark.parametrize(
        "kill",
        [Kill("fork-ledger"), Kill("rename"), Kill("start-record")],
        ids=str,
    )
    def test_killed_anywhere_while_it_copies_it_begins_there_all_the_same(
        self, kill: Kill, make_job: MakeJob, whole: Whole, stopped: Any
    ) -> None:
        job = fork(make_job, stopped("by_index"), CHOSEN)
        job.run_to_end(kill)
        assert job.outcome() == whole("by_index", model="small_model").outcome()
        assert len([found for found in job.directory.commit_ids() if found.step == 10]) <= 1

    def test_it_goes_on_from_its_own_commits_when_the_origin_is_gone(
        self, make_job: MakeJob, whole: Whole, stopped: Any
    ) -> None:
        job = fork(make_job, stopped("by_index"))
        job.run(Kill("step", 9))
        shutil.rmtree(other(job).root)
        job.run_to_end()
        assert job.outcome() == whole("by_index", model="small_model").outcome()

    @pytest.mark.parametrize("loss", ["removed", "damaged"])
    def test_without_its_start_record_a_fork_does_not_silently_begin_again(
        self, loss: str, make_job: MakeJob, stopped: Any
    ) -> None:
        job = fork(make_job, stopped("by_index"), CHOSEN)
        assert job.run(Kill("step", 7, TERM)) == ExitCode.PREEMPTED
        record = job.directory.start_record(1)
        if loss == "removed":
            record.unlink()
        else:
            record.write_bytes(record.read_bytes().replace(b"null", b"nul1", 1))
        assert job.run() == ExitCode.PERMANENT
        assert job.final_record["reason"] == "PositionLost"

    def test_one_that_was_killed_while_it_copied_is_not_damaged(
        self, make_job: MakeJob, stopped: Any
    ) -> None:
        job = fork(make_job, stopped("by_index"), CHOSEN)
        job.run(Kill("start-record", before=True))
        assert job.directory.commit_ids() == [CommitId(10, 1)]
        assert inspect_job(job.directory).problem is None

    def test_another_seed_is_refused(self, make_job: MakeJob, stopped: Any) -> None:
        job = fork(make_job, stopped("by_index"), seed=8)
        assert job.run() == ExitCode.PERMANENT
        assert job.final_record["reason"] == "FingerprintMismatch"
        assert "the seed (7 -> 8)" in job.final_record["message"]

    def test_a_commit_that_is_not_there_is_named_with_those_that_are(
        self, make_job: MakeJob, stopped: Any
    ) -> None:
        job = fork(make_job, stopped("by_index"), "000000000011-000001")
        assert job.run() == ExitCode.PERMANENT
        assert job.final_record["reason"] == "CommitNotFound"
        assert "there are: 000000000017-000001, 000000000015" in job.final_record["message"]

    def test_a_job_that_is_not_there_is_named(self, make_job: MakeJob, stopped: Any) -> None:
        job = fork(make_job, stopped("by_index"))
        job.config["forkFrom"]["jobUid"] = "nobody"
        assert job.run() == ExitCode.PERMANENT
        assert "there is no job nobody on claim claim" in job.final_record["message"]

    def test_the_newest_commit_that_is_whole_is_taken(
        self, make_job: MakeJob, stopped: Any
    ) -> None:
        job = fork(make_job, stopped("by_index"))
        data = other(job).commit(CommitId(17, 1)) / "state.safetensors"
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(bytes(content))
        job.run(Kill("start-record"))
        assert job.directory.commit_ids() == [CommitId(15, 1)]

    def test_a_damaged_ledger_is_not_carried_on(self, make_job: MakeJob, stopped: Any) -> None:
        job = fork(make_job, stopped("by_index"), CHOSEN)
        segment = other(job).ledger_segment(1)
        segment.write_bytes(segment.read_bytes().replace(b'"epoch":0', b'"epoch":5', 1))
        assert job.run() == ExitCode.PERMANENT
        assert job.final_record["reason"] == "CommitDamaged"
        assert "its ledger is damaged" in job.final_record["message"]

    def test_an_origin_without_a_commit_may_have_one_later(
        self, make_job: MakeJob, stopped: Any
    ) -> None:
        job = fork(make_job, stopped("by_index"))
        shutil.rmtree(other(job).commits)
        other(job).commits.mkdir()
        assert job.run() == ExitCode.USER_ERROR
        assert job.final_record["reason"] == "CommitNotFound"
        assert "no commit of job other on claim claim can be copied" in job.final_record["message"]


def test_an_end_that_is_passed_already_is_refused_where_the_length_is_not_known(
    make_job: MakeJob,
) -> None:
    filtered = """

def filtered():
    numbers = tf.data.Dataset.range(100).filter(lambda number: number % 7 != 0).shuffle(30)
    return numbers.map(_features).batch(8)
"""
    source = (BUILDERS / "builder.py").read_text() + filtered
    job = make_job(source, datasetFunction="filtered", modelFunction="small_model")
    assert job.run(Kill("step", 14, TERM)) == ExitCode.PREEMPTED
    assert job.run(epochs=1) == ExitCode.PERMANENT
    assert job.final_record["reason"] == "InvalidSpec"
    assert (
        "spec.epochs is 1, but the commit at step 14 is in epoch 2 already"
        in (job.final_record["message"])
    )
