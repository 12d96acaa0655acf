"""`checkpoint.keepBest`: the commits of the best epochs stay, whatever is killed in between.

The jobs have 6 epochs of 5 batches and keep two commits beside the best. Their validation loss is
the same in each run, and is not best at the end.
"""

import json
from typing import Any

import pytest
from rtj_api.checkpoint import KeepBest
from rtj_api.heartbeat import BestCommit
from rtj_api.names import ExitCode
from rtj_trainer.commits import attempts
from rtj_trainer.commits.attempts import StartRecord
from rtj_trainer.commits.best import BestCommits, steps_of
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import read_manifest
from rtj_trainer.inspection import survey, text

from tests.unit.trainer.support import Job, Kill, MakeJob
from tests.unit.trainer.test_trainer_commits import commit

pytestmark = pytest.mark.unit


def job_of(make_job: MakeJob, every: int = 5, **changes: Any) -> Job:
    """Return a job that commits at the last step of each epoch, too, before the epoch ends."""
    changes.setdefault("callbacksFunction", "several")
    best = {"metric": "val_mae", "mode": "min", "count": 2, **changes.pop("best", {})}
    return make_job(
        module="watched",
        validationFunction="validation",
        epochs=6,
        checkpoint={"claimName": "claim", "everySteps": every, "keep": 2, "keepBest": best},
        **{"datasetFunction": "unknown", **changes},
    )


def results(job: Job) -> dict[int, float]:
    """Return the metric of each epoch, by its last step, from the log of one attempt."""
    found = {}
    for line in job.log.splitlines():
        if " ended at step " in line:
            step, _, values = line.partition(" ended at step ")[2].partition(": ")
            found[int(step)] = float(values.partition("val_mae ")[2].partition(",")[0])
    return found


def kept(job: Job) -> dict[int, float]:
    """Return the metric in each commit that has one, by step."""
    manifests = [read_manifest(job.directory.commit(found)) for found in job.directory.commit_ids()]
    return {found.step: found.results["val_mae"] for found in manifests if found.results}


@pytest.fixture(scope="module")
def reference(make_job: MakeJob) -> Any:
    job = job_of(make_job)
    job.run_to_end()
    best = sorted(results(job), key=results(job).__getitem__)[:2]
    assert max(best) < 25, "a best epoch must be older than what is kept anyway"
    assert set(best) <= set(kept(job))
    assert len(kept(job)) <= 4
    return job.outcome(), set(best)


@pytest.mark.parametrize(
    "kills",
    [
        [Kill("validation-batch", 7), Kill("epoch-end", 1)],
        [Kill("rename", 2, before=True), Kill("retention", 3)],
        [Kill("epoch-end", 1, "SIGTERM"), Kill("train-end")],
    ],
    ids=["in-and-after-an-evaluation", "before-and-after-its-commit", "stops"],
)
def test_the_best_are_kept_over_kills_and_nothing_else_changes(
    kills: list[Kill], make_job: MakeJob, reference: Any
) -> None:
    outcome, best = reference
    job = job_of(make_job)
    job.run_to_end(*kills)
    assert job.outcome() == outcome
    assert best <= set(kept(job))


def test_a_commit_of_an_epoch_holds_what_was_evaluated(make_job: MakeJob, reference: Any) -> None:
    """A fork of it goes on to the same end, and inspect names its results."""
    outcome, best = reference
    job = job_of(make_job, every=100)
    job.run_to_end()
    assert job.outcome()[0] == outcome[0]
    name = f"{min(best):012d}-000001-epoch"
    report = text.of(survey.inspect_job(job.directory))
    line = next(line for line in report.splitlines() if name in line)
    assert f"val_mae {kept(job)[min(best)]:.4g}" in line
    again = {"request": 7, "commit": name}
    done = job.last_manifest
    job.directory.commit(CommitId(done.step, 1, final=True)).rename(job.folder / "gone")
    assert job.run(restore=again) == ExitCode.COMPLETED, job.log[-2000:]
    assert f"going on from commit {name}" in job.log
    assert job.last_manifest.state_sha256 == done.state_sha256


def test_the_last_epoch_is_kept_with_the_weights_that_were_evaluated(make_job: MakeJob) -> None:
    """Although the job then ends with others."""
    job = job_of(
        make_job,
        callbacksFunction="early",
        callbacksParams={"restore": True},
        best={"metric": "val_loss", "mode": "min", "count": 6},
    )
    job.run_to_end(Kill("train-end"))
    last = job.last_manifest
    assert last.altered_at_end
    assert not last.results
    before = read_manifest(job.directory.commit(CommitId(last.step, job.attempts, epoch=True)))
    assert before.results
    assert before.state_sha256 != last.state_sha256


def test_the_results_of_the_last_epoch_are_in_the_final_commit_after_a_restart_too(
    make_job: MakeJob,
) -> None:
    """The restart finds the epoch at its end, and does not evaluate it again.

    What a callback writes down in on_train_end makes no other weights of those that were measured.
    """
    job = job_of(make_job, every=100, callbacksFunction="recorder")
    job.config["epochs"] = 1
    job.run_to_end(Kill("train-end"))
    last = job.last_manifest
    ended = read_manifest(job.directory.commit(CommitId(last.step, job.attempts, epoch=True)))
    assert "val_mae" in ended.results
    assert last.results == ended.results
    assert job.log.count(" ended at step ") == 1
    assert job.run(epochs=2) == ExitCode.PERMANENT, "no longer job would have that call there"
    assert "what a callback keeps" in job.final_record["message"]


def test_a_metric_that_no_epoch_has_is_refused_before_step_0(make_job: MakeJob) -> None:
    job = job_of(make_job, best={"metric": "val_accuracy"})
    assert job.run() == ExitCode.PERMANENT, job.log[-2000:]
    message = job.final_record["message"]
    assert "no result 'val_accuracy', it has loss, mae, val_loss, val_mae" in message
    assert not job.directory.commit_ids()


@pytest.fixture
def job(tmp_path: Any) -> JobDirectory:
    made = JobDirectory(tmp_path / "uid")
    made.create()
    attempts.write_start_record(made, StartRecord(1, None))
    return made


def give(job: JobDirectory, step: int, value: float, attempt: int = 1) -> None:
    """Make a commit with a result."""
    commit(job, step, attempt, results={"acc": value})


class TestRanking:
    """Which commits are the best."""

    def test_the_highest_or_the_lowest_come_first_and_of_equals_the_older(
        self, job: JobDirectory
    ) -> None:
        for step, value in [(5, 0.5), (10, 0.9), (15, 0.5), (20, 0.7)]:
            give(job, step, value)
        highest = BestCommits(job, 1, KeepBest(metric="acc", mode="max", count=2))
        assert highest.commits() == [
            BestCommit(id="000000000010-000001", value=0.9),
            BestCommit(id="000000000020-000001", value=0.7),
        ]
        lowest = BestCommits(job, 1, KeepBest(metric="acc", mode="min"))
        assert steps_of(lowest.commits()) == {5}
        assert steps_of(lowest.commits(spared=1)) == {5, 15}

    def test_only_what_is_better_than_all_of_them_improves(self, job: JobDirectory) -> None:
        best = BestCommits(job, 1, KeepBest(metric="acc", mode="max"))
        assert best.improved_by({"acc": -3.0})
        assert not best.improved_by({"loss": 9.0})
        give(job, 5, 0.5)
        assert [best.improved_by({"acc": value}) for value in (0.4, 0.5, 0.6)] == [
            False,
            False,
            True,
        ]

    def test_commits_of_older_attempts_count_and_those_outside_of_the_lineage_do_not(
        self, job: JobDirectory
    ) -> None:
        for step, value in [(5, 0.8), (10, 0.9)]:
            give(job, step, value)
        attempts.write_start_record(job, StartRecord(2, CommitId(5, 1)))
        give(job, 5, 0.8, attempt=2)
        best = BestCommits(job, 2, KeepBest(metric="acc", mode="max"))
        assert best.commits() == [BestCommit(id="000000000005-000002", value=0.8)]

    def test_a_damaged_commit_is_not_the_best(self, job: JobDirectory) -> None:
        give(job, 5, 0.5)
        give(job, 10, 0.9)
        path = job.commit(CommitId(10, 1)) / "manifest.json"
        path.write_text(json.dumps({}))
        best = BestCommits(job, 1, KeepBest(metric="acc", mode="max"))
        assert steps_of(best.commits()) == {5}
