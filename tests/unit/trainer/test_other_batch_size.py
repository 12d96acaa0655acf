"""A job goes on with another batch size, at exactly the next example, if it is allowed to.

The jobs have epochs of 100 examples, in batches of 8 at first, and commit every 5 steps.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import pytest
from rtj_api.fingerprint import FingerprintPolicy, OnChange
from rtj_api.names import ExitCode
from rtj_trainer.cutting import Cutting
from rtj_trainer.data.indexing import IndexedSource
from rtj_trainer.errors import PermanentError
from rtj_trainer.fingerprint import Fingerprint, check
from rtj_trainer.inspection import survey, text
from rtj_trainer.ledger import Entry

from tests.unit.trainer.support import BUILDERS, Job, Kill, MakeJob, fork

pytestmark = pytest.mark.unit

TERM = "SIGTERM"
ALLOWED = {"batchSize": "Ignore"}


def small_job(make_job: MakeJob, **changes: Any) -> Job:
    return make_job(**{"datasetFunction": "by_index", "modelFunction": "small_model", **changes})


def uninterrupted(epochs: int, size: int = 100) -> list[int]:
    """Return the ids of a job that was never killed, whatever its batch size."""
    source = IndexedSource(Cutting.even(size, size, False), shuffle=True)
    return [int(place) for epoch in range(epochs) for place in source.places(epoch, 7)]


def ids(entries: Iterable[Entry]) -> list[Any]:
    return list(chain.from_iterable(entry.ids or () for entry in entries))


def sizes(entries: Iterable[Entry]) -> list[int]:
    return [len(entry.ids or ()) for entry in entries]


def verdict(job: Job) -> str:
    """Return what `ledger check` says of a job in which nothing is wrong."""
    report = survey.check_ledger(job.directory, strict=True)
    assert not report.is_wrong
    assert not report.doubt
    return text.of(report)


def go_on(job: Job, kill: Kill | None = None, **params: Any) -> int:
    """Run the next attempt with other parameters, as a fork does once it has its copy."""
    job.config["builder"]["datasetParams"] = params
    job.config["fingerprintPolicy"] = ALLOWED
    return job.run(kill)


def test_a_fork_with_another_batch_size_ends_as_if_it_was_never_killed(make_job: MakeJob) -> None:
    origin = make_job(datasetFunction="by_index")
    assert origin.run(Kill("step", 17, TERM)) == ExitCode.PREEMPTED
    whole, killed = (
        fork(
            *(make_job, origin),
            datasetParams={"batch_size": 20},
            fingerprintPolicy={"batchSize": "Warn"},
        )
        for _ in range(2)
    )
    whole.run_to_end()
    killed.run_to_end(Kill("step", 2), Kill("step", 6, TERM))
    assert killed.outcome() == whole.outcome()
    trajectory = killed.outcome()[2]
    assert ids(trajectory) == uninterrupted(3)
    assert sizes(trajectory)[17:] == [20, 20, 20, 8] + [20] * 5
    assert "3 epochs of 100 examples, each exactly once\n" in verdict(killed)
    assert killed.last_manifest.samples == 300
    # The attempt after the first commit of the new size sees no change.
    assert killed.log.count("since the last commit these changed: the batch size (8 -> 20)") == 2


def test_the_size_may_change_again_and_at_the_end_of_a_job(make_job: MakeJob) -> None:
    job = small_job(make_job, datasetParams={"size": 96}, epochs=2)
    assert job.run(Kill("step", 5, TERM)) == ExitCode.PREEMPTED
    # What is left of the epoch makes one shorter batch, though 16 divides 96.
    assert go_on(job, Kill("step", 2, TERM), size=96, batch_size=16) == ExitCode.PREEMPTED
    assert go_on(job, size=96, batch_size=12) == ExitCode.COMPLETED, job.log[-3000:]
    longer = fork(
        *(make_job, job),
        datasetParams={"size": 96, "batch_size": 32},
        fingerprintPolicy=ALLOWED,
        epochs=3,
    )
    longer.run_to_end()
    trajectory = longer.outcome()[2]
    assert ids(trajectory) == uninterrupted(3, 96)
    assert sizes(trajectory) == [8] * 5 + [16] * 2 + [12] * 2 + [12] * 8 + [32] * 3
    assert longer.final_record["message"] == "job complete at step 20 after 288 examples"


def test_steps_are_counted_up_and_a_text_may_hold_the_size(make_job: MakeJob) -> None:
    source = (BUILDERS / "builder.py").read_text()
    job = small_job(make_job, builder=source, epochs=None, totalSteps=16)
    assert job.run(Kill("step", 13, TERM)) == ExitCode.PREEMPTED
    builder = job.folder / "builder" / "builder.py"
    builder.write_text(source.replace("batch_size: int = 8", "batch_size: int = 50"))
    policy = {"source": "Warn", "batchSize": "Warn"}
    assert job.run(fingerprintPolicy=policy) == ExitCode.COMPLETED, job.log[-2000:]
    trajectory = job.outcome()[2]
    assert sizes(trajectory)[13:] == [50, 50, 50]
    assert [entry.epoch for entry in trajectory[12:]] == [0, 1, 1, 2]
    assert ids(trajectory) == uninterrupted(3)[:250]


def test_what_an_epoch_drops_depends_on_the_size_that_ends_it(make_job: MakeJob) -> None:
    job = small_job(make_job, module="named", datasetFunction="dropping")
    assert job.run(Kill("step", 17, TERM)) == ExitCode.PREEMPTED
    assert go_on(job, Kill("step", 7), batch_size=7) == -9
    job.run_to_end()
    trajectory, order = job.outcome()[2], uninterrupted(3)
    assert ids(trajectory) == order[:96] + order[100:196] + order[200:298]
    assert (
        "3 epochs of 96 to 98 examples, each exactly once but for 2 to 4 of 100 that it drops"
        in verdict(job)
    )


def test_a_cache_is_cut_into_other_batches_too(make_job: MakeJob) -> None:
    flipped = {"batchFunction": "flipped", "batchParams": {"share": 0.5}}
    cache = {"batchSize": 8}
    changes = {"module": "cached", "datasetFunction": "saved", "cache": cache, "epochs": 2}
    job = small_job(make_job, **changes, **flipped)
    assert job.run(Kill("step", 4, TERM)) == ExitCode.PREEMPTED
    job.config["cache"] = {"batchSize": 30}
    assert job.run() == ExitCode.PERMANENT
    assert "changed: the batch size (8 -> 30). Resuming" in job.final_record["message"]
    assert job.run(fingerprintPolicy=ALLOWED) == ExitCode.COMPLETED
    assert sizes(job.outcome()[2]) == [8] * 4 + [30, 30, 8] + [30, 30, 30, 10]
    assert ids(job.outcome()[2]) == uninterrupted(2)


@pytest.mark.parametrize("function", ["two_optimizers", "fitted"])
def test_a_loop_of_the_users_goes_on_with_another_size(function: str, make_job: MakeJob) -> None:
    job = make_job(module="own", trainFunction=function, datasetFunction="by_index", epochs=2)
    assert job.run(Kill("step", 4, TERM)) == ExitCode.PREEMPTED
    assert go_on(job, batch_size=30) == ExitCode.COMPLETED, job.log[-3000:]
    assert ids(job.outcome()[2]) == uninterrupted(2)
    assert [entry.epoch for entry in job.outcome()[2]] == [0] * 7 + [1] * 4
    if function == "two_optimizers":
        assert "trained: [0, 1]" in job.log


def test_another_size_is_refused_unless_it_is_allowed(make_job: MakeJob) -> None:
    job = small_job(make_job)
    assert job.run(Kill("step", 4, TERM)) == ExitCode.PREEMPTED
    job.config["builder"]["datasetParams"] = {"batch_size": 20}
    assert job.run() == ExitCode.PERMANENT
    assert job.final_record["reason"] == "FingerprintMismatch"
    message = job.final_record["message"]
    assert "changed: the batch size (8 -> 20). Resuming" in message
    assert "With spec.fingerprintPolicy.batchSize: Warn, a fork goes on" in message
    # Nothing else may change with it.
    assert go_on(job, batch_size=20, size=96) == ExitCode.PERMANENT
    assert "datasetParams (batch_size: 8 -> 20" not in job.final_record["message"]
    assert (
        "datasetFunction or datasetParams (batch_size: absent -> 20, size: absent -> 96)"
        in (job.final_record["message"])
    )


def test_another_strategy_than_index_is_refused_as_ever(make_job: MakeJob) -> None:
    job = small_job(make_job, datasetFunction="shuffled", datasetParams={"batch_size": 8})
    assert job.run(Kill("step", 4, TERM)) == ExitCode.PREEMPTED
    assert go_on(job, batch_size=20) == ExitCode.PERMANENT
    message = job.final_record["message"]
    assert "datasetFunction or datasetParams (batch_size: 8 -> 20)" in message
    assert "the batch size" not in message


OLD = """
from rtj_trainer import committer
new = committer.Manifest
committer.Manifest = lambda **fields: new(**{**fields, "cutting": None})
"""


def test_a_commit_that_does_not_tell_its_size_goes_on_with_the_same_one(make_job: MakeJob) -> None:
    job = small_job(make_job, epochs=2)
    job.patches = [job.folder / "old.py"]
    job.patches[0].write_text(OLD)
    assert job.run(Kill("step", 17, TERM)) == ExitCode.PREEMPTED
    job.patches = []
    assert go_on(job, batch_size=20) == ExitCode.PERMANENT
    assert "datasetParams (batch_size: absent -> 20)" in job.final_record["message"]
    assert go_on(job) == ExitCode.COMPLETED
    assert ids(job.outcome()[2]) == uninterrupted(2)
    assert job.last_manifest.cutting == Cutting.even(100, 8, False)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"sgd", "mse"', '"sgd", "mae"', "what the training step computes"),
        ("indexed(size,", "indexed(size - 4,", "the tf.data pipeline that the builder returns"),
        ("value / 100.0", "value / 99.0", "the tf.data pipeline that the builder returns"),
    ],
    ids=["loss", "size", "features"],
)
def test_nothing_else_changes_under_cover_of_the_size(
    old: str, new: str, what: str, make_job: MakeJob
) -> None:
    source = (BUILDERS / "builder.py").read_text()
    assert source.count(old) == 1
    job = small_job(make_job, builder=source, datasetParams={"size": 96})
    assert job.run(Kill("step", 4, TERM)) == ExitCode.PREEMPTED
    builder = job.folder / "builder" / "builder.py"
    builder.write_text(source.replace(old, new))
    job.config["builder"]["datasetParams"] = {"size": 96, "batch_size": 12}
    policy = {"source": "Ignore", "batchSize": "Ignore"}
    assert job.run(fingerprintPolicy=policy) == ExitCode.PERMANENT, job.log[-2000:]
    assert f"{what} (" in job.final_record["message"]


def test_a_pipeline_that_counts_on_its_size_is_refused(make_job: MakeJob) -> None:
    source = (
        (BUILDERS / "builder.py").read_text()
        + """

def counting(batch_size=8):
    features = by_index(96, batch_size)
    return features.map(lambda found: Tagged(tf.reshape(found.ids, [batch_size]), found.data))
"""
    )
    job = small_job(make_job, builder=source, datasetFunction="counting")
    assert job.run(Kill("step", 4, TERM)) == ExitCode.PREEMPTED
    assert go_on(job, batch_size=12) == ExitCode.PERMANENT
    assert "changed: the tf.data pipeline that the builder returns (" in job.final_record["message"]


def fingerprint(batch_size: int, drop_remainder: bool = False, **params: Any) -> Fingerprint:
    cutting = Cutting.even(100, batch_size, drop_remainder)
    return Fingerprint({"dataset": {"function": "f", **params}}, {}, cutting)


class TestParameters:
    """A parameter may differ if it is the batch size, and no second one."""

    POLICY = FingerprintPolicy(batch_size=OnChange.IGNORE)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"n": 8}, {"n": 4}),
            ({}, {"n": 4}),
            ({"data": {"size": 8, "shuffle": True}}, {"data": {"size": 4, "shuffle": True}}),
            ({}, {}),
        ],
    )
    def test_the_size_alone(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        assert check(fingerprint(8, **before), fingerprint(4, **after), self.POLICY) is None

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"n": 8, "words": 8}, {"n": 4, "words": 4}),
            ({"words": 7}, {"words": 4}),
            ({"words": ["a"]}, {"words": ["b"]}),
            ({"function": "f"}, {"function": "g"}),
        ],
    )
    def test_more_than_the_size(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        with pytest.raises(PermanentError, match="datasetFunction or datasetParams"):
            check(fingerprint(8, **before), fingerprint(4, **after), self.POLICY)

    def test_a_truth_is_no_size(self) -> None:
        with pytest.raises(PermanentError, match="datasetFunction or datasetParams"):
            check(fingerprint(8, n=8), fingerprint(1, n=True), self.POLICY)

    def test_what_is_dropped_may_not_change_with_it(self) -> None:
        with pytest.raises(PermanentError, match=r"drop_remainder \(False -> True\)") as error:
            check(fingerprint(10), fingerprint(20, True), self.POLICY)
        assert "fingerprintPolicy.batchSize" not in error.value.message, "it is allowed already"

    def test_a_pipeline_without_a_size_is_another_one(self) -> None:
        without = Fingerprint(fingerprint(8).identity, {})
        with pytest.raises(PermanentError, match=r"drop_remainder \(False -> absent\)"):
            check(fingerprint(8), without, self.POLICY)

    def test_another_version_excuses_no_other_pipeline_with_it(self) -> None:
        before, after = (
            Fingerprint({"pipeline": text}, {"tensorflow": version}, Cutting.even(100, size, False))
            for text, version, size in (("a", "2.21.0", 8), ("b", "2.22.0", 4))
        )
        with pytest.raises(PermanentError, match=r"tf\.data pipeline that the builder returns"):
            check(before, after, self.POLICY)

    def test_a_commit_that_does_not_tell_its_size_is_compared_as_ever(self) -> None:
        old = Fingerprint(fingerprint(8, n=8).identity, {})
        with pytest.raises(PermanentError, match=r"datasetParams \(n: 8 -> 4\)"):
            check(old, fingerprint(4, n=4), self.POLICY)
        same = Fingerprint(fingerprint(4, n=4).identity, {})
        assert check(same, fingerprint(4, n=4), FingerprintPolicy()) is None
