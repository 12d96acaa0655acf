"""Whatever the next step depends on survives a kill, wherever the model keeps it, or is refused.

The jobs have 3 epochs of 10 batches and commit every 4 steps. They are stopped after step 7, with a
commit; and some are killed after step 13.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rtj_api.names import ExitCode

from tests.unit.trainer.support import Job, Kill, MakeJob, copy_of

pytestmark = pytest.mark.unit

STOP = Kill("step", 7, "SIGTERM")
EXACT = [
    "accumulation",
    "moving_average",
    "schedule",
    "float16",
    "bfloat16",
    "stateful_layers",
    "several_optimizers",
    "generator_of_the_model",
    "generator_of_the_module",
    "global_generators",
    "counter_that_is_only_added_to",
    "variable_that_is_only_read_every_other_step",
    "host_generators",
]
DRAW_AT_A_START = {"global_generators", "host_generators"}
"""A start draws from these before the commit gives them back, so they are given back once more."""
CALLBACKS = {"host_generators": {"callbacksFunction": "draws_on_the_host"}}


def job_of(make_job: MakeJob, model: str, **changes: Any) -> Job:
    job = make_job(module="states", modelFunction=model, **changes)
    job.config["checkpoint"]["everySteps"] = 4
    return job


@pytest.mark.parametrize("model", EXACT)
def test_it_goes_on_as_if_it_had_not_been_killed(model: str, make_job: MakeJob) -> None:
    whole, killed = (job_of(make_job, model, **CALLBACKS.get(model, {})) for _ in range(2))
    whole.run_to_end()
    killed.run_to_end(STOP, *([Kill("step", 6)] if model in DRAW_AT_A_START else []))
    assert killed.outcome() == whole.outcome()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("table_that_the_step_fills", ["LookupTableInsertV2", "a tf.Variable instead of a table"]),
        ("variable_of_text", ["a variable of the step has the type string", "keep numbers in it"]),
        ("iterator_in_the_step", ["IteratorGetNext"]),
        ("queue_in_the_step", ["QueueDequeueV2"]),
        ("time_in_the_step", ["Timestamp"]),
        ("sampled_loss", ["LogUniformCandidateSampler"]),
        ("functions_run_eagerly", ["run_functions_eagerly"]),
        ("variable_that_cannot_be_read", ["ReadVariableOp", "neither saved nor compared"]),
    ],
)
def test_what_cannot_be_saved_is_refused_before_step_0(
    model: str, words: list[str], make_job: MakeJob
) -> None:
    job = job_of(make_job, model)
    assert job.run() == ExitCode.PERMANENT, job.log[-2000:]
    assert job.final_record["reason"] == "PipelineNotResumable"
    for word in words:
        assert word in job.final_record["message"]
    assert not job.directory.commit_ids()


@pytest.fixture(scope="module")
def stopped(make_job: MakeJob) -> Any:
    """Return a job with a model that was stopped once; not to be changed, but copied."""

    @cache
    def run(model: str) -> Job:
        job = job_of(make_job, model)
        assert job.run(STOP) == ExitCode.PREEMPTED, job.log[-2000:]
        return job

    return run


CAPTURED = "the constants or tables that the training step reads, or which variables"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("another_constant_each_time", "what the training step computes"),
        ("another_large_constant_each_time", CAPTURED),
        ("other_texts_each_time", CAPTURED),
        ("another_vocabulary_each_time", CAPTURED),
        ("another_vocabulary_in_a_branch_each_time", CAPTURED),
        ("generators_in_another_order_each_time", CAPTURED),
    ],
)
def test_a_model_that_is_built_otherwise_each_time_is_refused_at_the_restart(
    model: str, words: str, stopped: Any, tmp_path: Path
) -> None:
    job = copy_of(stopped(model), tmp_path)
    assert job.run() == ExitCode.PERMANENT
    assert words in job.final_record["message"]


@pytest.mark.parametrize(
    "model",
    [
        "another_large_constant_each_time",
        "other_texts_each_time",
        "another_vocabulary_each_time",
        "another_vocabulary_in_a_branch_each_time",
    ],
)
def test_another_version_excuses_no_other_contents_of_what_the_step_reads(
    model: str, stopped: Any, tmp_path: Path
) -> None:
    job = copy_of(stopped(model), tmp_path)
    job.patches = [job.folder / "version.py"]
    job.patches[0].write_text("import tensorflow as tf\ntf.__version__ = '2.99.0'\n")
    assert job.run() == ExitCode.PERMANENT
    message = job.final_record["message"]
    assert "these changed: the contents of constants or tables that the training step" in message
    assert CAPTURED not in message


def test_another_version_may_read_the_same_constants_and_tables(make_job: MakeJob) -> None:
    job = job_of(make_job, "same_each_time")
    assert job.run(STOP) == ExitCode.PREEMPTED, job.log[-2000:]
    job.patches = [job.folder / "version.py"]
    job.patches[0].write_text("import tensorflow as tf\ntf.__version__ = '2.99.0'\n")
    assert job.run() == ExitCode.COMPLETED, job.log[-2000:]
    assert "-> 2.99.0" in job.log
