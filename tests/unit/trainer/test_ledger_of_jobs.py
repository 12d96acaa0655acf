"""What `inspect` and `ledger check` say of jobs of many kinds: nothing wrong that is right.

The jobs have 3 epochs, and are killed once.
"""

from typing import Any

import pytest
from rtj_trainer.inspection import survey, text

from tests.unit.trainer.support import Job, Kill, MakeJob

pytestmark = pytest.mark.unit

FORGETS = """
import dataclasses
from rtj_trainer.ledger import LedgerWriter
append = LedgerWriter.append
def forgetting(self, entry):
    ids = tuple(found for found in entry.ids if found != 17)
    append(self, dataclasses.replace(entry, ids=ids))
LedgerWriter.append = forgetting
"""
KEEP_BEST = {
    "claimName": "claim",
    "everySteps": 100,
    "keepBest": {"metric": "loss", "mode": "min", "count": 9},
}


def job_of(make_job: MakeJob, function: str, **changes: Any) -> Job:
    fields = {"module": "named", "modelFunction": "small_model", **changes}
    return make_job(datasetFunction=function, **fields)


def ledger_of(job: Job) -> survey.LedgerReport:
    """Check the ledger as both commands do."""
    report = survey.check_ledger(job.directory, strict=True)
    assert report == survey.inspect_job(job.directory).ledger
    return report


@pytest.mark.parametrize(
    ("function", "changes", "kill", "told"),
    [
        ("dropping", {}, Kill("step", 17), "each exactly once but for 4 of 100 that it drops"),
        (
            "dropping",
            {"checkpoint": KEEP_BEST},
            Kill("train-end"),
            "3 epochs of 96 examples, each exactly once but for 4 of 100 that it drops",
        ),
        (
            "by_index",
            {"callbacksFunction": "stopped"},
            Kill("step", 12),
            "1 epochs of 100 examples, each exactly once, and 32 of epoch 1",
        ),
        ("renamed", {}, Kill("step", 17), "3 epochs of 96 examples, each exactly once but for 4"),
        (
            "doubled",
            {},
            Kill("retention"),
            "3 epochs of 20 examples, each exactly once\n",
        ),
        ("shuffled", {}, Kill("step", 17), "each exactly once if epoch 0 had them all"),
        ("dropping_as_it_comes", {}, Kill("step", 17), "NOT PROVEN: epoch 1 adds"),
        ("by_kind", {}, Kill("step", 17), "NOT PROVEN: epoch 0 has 7 different ids instead of 100"),
    ],
    ids=[
        "drops",
        "killed-at-its-end",
        "stopped",
        "renamed",
        "doubled",
        "unknown",
        "unknown-drops",
        "kinds",
    ],
)
def test_the_ledger_of_a_job_that_is_right_is_not_called_wrong(
    function: str, changes: dict[str, Any], kill: Kill, told: str, make_job: MakeJob
) -> None:
    job = job_of(make_job, function, **changes)
    job.run_to_end(kill)
    report = ledger_of(job)
    assert not report.is_wrong
    assert told in text.of(report)


def test_a_part_of_the_first_epoch_is_not_called_an_epoch(make_job: MakeJob) -> None:
    job = job_of(make_job, "dropping")
    job.run(Kill("step", 11, "SIGTERM"))
    assert "88 of 96 examples of epoch 0, each exactly once\n" in text.of(ledger_of(job))


def test_a_cache_that_drops_the_remainder_is_checked_against_all_of_it(make_job: MakeJob) -> None:
    policy = {"batchSize": 8, "dropRemainder": True}
    job = job_of(make_job, "saved", module="cached", cache=policy)
    job.run_to_end(Kill("step", 17))
    assert "each exactly once but for 4 of 100 that it drops" in text.of(ledger_of(job))


@pytest.mark.parametrize("function", ["by_index", "dropping"])
def test_an_example_that_is_missing_in_every_epoch_is_found(
    function: str, make_job: MakeJob
) -> None:
    job = job_of(make_job, function)
    patch = job.folder / "forgets.py"
    patch.write_text(FORGETS)
    job.patches.append(patch)
    job.run_to_end()
    assert ledger_of(job).problem in (
        "epoch 0 lacks 1 ids, as 17",
        "epoch 0 lacks 5 ids, as 17, but it drops 4 only",
    )
