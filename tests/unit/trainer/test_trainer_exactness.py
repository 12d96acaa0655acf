"""However often and wherever a trainer is killed, it ends as if it never was.

The jobs have 3 epochs of 13 batches, the last one short, and commit every 5 steps; so epochs end
between two commits. The model has dropout, batch normalisation, metrics, Adam with a schedule, and
noise from Keras's global generator.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from rtj_api.names import ExitCode

from tests.unit.trainer import beats
from tests.unit.trainer.support import (
    BUILDERS,
    Job,
    Kill,
    MakeJob,
    Whole,
    check_each_id_once_per_epoch,
    copy_of,
)

pytestmark = pytest.mark.unit

TERM = "SIGTERM"
LIVES = {
    "before-anything-is-committed": [
        Kill("fence"),
        Kill("dataset"),
        Kill("dataset", signal=TERM),
        Kill("start-record"),
        Kill("step", 3),
        Kill("batch", 15),  # at the start of an epoch
        Kill("restore"),
        Kill("step", 1),  # twice from one commit
    ],
    "around-commits": [
        Kill("step", 13),  # at the end of an epoch
        Kill("state-written", 2),
        # The first name is that of the commit it goes on from.
        Kill("rename", 2, before=True),
        Kill("rename", 2),
    ],
    "in-the-last-epoch-and-after-the-last-commit": [
        Kill("step", 38),
        Kill("last-word", before=True),
    ],
    "asked-to-stop": [
        Kill("step", 13, TERM),  # at the end of an epoch
        Kill("step", 9, TERM),
        Kill("step", 3),
        Kill("state-written", 2, TERM),
    ],
}
BY_INDEX = [
    Kill("step", 3),
    Kill("step", 13),
    Kill("state-written", 2),
    Kill("step", 8, TERM),
    Kill("restore"),
    Kill("step", 1),
]
"""A position that is a number has fewer ways to be wrong."""


@pytest.mark.parametrize(
    ("dataset", "kills"),
    [
        *[pytest.param("shuffled", kills, id=f"iterator-{name}") for name, kills in LIVES.items()],
        pytest.param("by_index", BY_INDEX, id="index"),
    ],
)
def test_a_killed_job_ends_with_the_same_weights_and_the_same_examples(
    dataset: str, kills: list[Kill], make_job: MakeJob, whole: Whole
) -> None:
    job = make_job(datasetFunction=dataset)
    job.run_to_end(*kills)
    assert job.outcome() == whole(dataset).outcome()
    trajectory = job.outcome()[2]
    assert check_each_id_once_per_epoch(trajectory, range(100)) == {0: 100, 1: 100, 2: 100}


def test_every_epoch_has_another_order(whole: Whole) -> None:
    for dataset in ("shuffled", "by_index"):
        trajectory = whole(dataset).outcome()[2]
        orders = [
            tuple(found for entry in trajectory if entry.epoch == epoch for found in entry.ids)
            for epoch in range(3)
        ]
        assert len(set(orders)) == 3


STOPPED_IN_THE_BUILDER = """
import os
import signal

import tensorflow as tf

def build_dataset():
    return tf.data.Dataset.range(9)

def build_stopped():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Exception as error:
        raise ValueError("no model") from error
"""


def test_a_stopped_trainer_loses_no_step(make_job: MakeJob) -> None:
    job = make_job(datasetFunction="by_index", modelFunction="small_model")
    assert job.run(Kill("step", 8, TERM)) == ExitCode.PREEMPTED
    assert job.last_manifest.step == 8
    assert job.final_record["reason"] == "TrainerPreempted"
    assert job.run(Kill("restore")) == -9
    assert "going on from commit 000000000008-000001" in job.log


@pytest.mark.parametrize("count", [1, 2], ids=["built", "traced"])
def test_a_request_to_stop_while_the_step_is_made_is_no_error_of_the_user(
    count: int, make_job: MakeJob
) -> None:
    job = make_job(datasetFunction="by_index", modelFunction="small_model")
    assert job.run(Kill("loss-traced", count, TERM, before=True)) == ExitCode.PREEMPTED
    assert job.final_record["reason"] == "TrainerPreempted"
    assert "stopped before training began" in job.final_record["message"]
    assert not job.directory.commit_ids()


def test_a_request_to_stop_is_one_whatever_a_program_makes_of_it(make_job: MakeJob) -> None:
    job = make_job(STOPPED_IN_THE_BUILDER, modelFunction="build_stopped")
    assert job.run() == ExitCode.PREEMPTED
    assert job.final_record["reason"] == "TrainerPreempted"


def test_a_trainer_killed_while_it_commits_for_a_stop_goes_on_from_what_is_there(
    make_job: MakeJob, whole: Whole
) -> None:
    job = make_job(datasetFunction="shuffled")
    job.run_to_end(
        Kill("step", 8, TERM, then=Kill("ledger-flush", 2)),
        Kill("step", 3, TERM, then=Kill("state-written")),
        # The first name is that of the commit it goes on from.
        Kill("step", 3, TERM, then=Kill("rename", 2, before=True)),
        Kill("step", 3, TERM, then=Kill("rename", 2)),
    )
    starts = re.findall(r"going on from commit (\d+-\d+)", job.log)
    assert starts == [
        *("000000000005-000001", "000000000005-000002", "000000000005-000003"),
        "000000000008-000004",
    ]
    assert job.outcome() == whole("shuffled").outcome()
    assert not job.directory.temporary_folders()


def test_a_request_to_stop_after_the_end_does_not_spoil_it(make_job: MakeJob) -> None:
    job = make_job(datasetFunction="by_index", modelFunction="small_model")
    assert job.run(Kill("last-word", signal=TERM, before=True)) == ExitCode.COMPLETED
    assert job.final_record["reason"] == "Completed"


def test_a_job_that_is_complete_does_not_take_another_step(whole: Whole, tmp_path: Path) -> None:
    job = copy_of(whole("by_index"), tmp_path)
    before = job.outcome()
    assert job.run() == ExitCode.COMPLETED
    assert job.outcome() == before
    assert not job.directory.ledger_segment(2).exists()
    assert job.final_record["reason"] == "Completed"


def test_total_steps_end_a_job_within_an_epoch(make_job: MakeJob) -> None:
    outcomes = []
    for kills in ([], [Kill("step", 17)]):
        job = make_job(datasetFunction="shuffled", epochs=None, totalSteps=20)
        job.run_to_end(*kills)
        assert job.last_manifest.step == 20
        outcomes.append(job.outcome())
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("changes", "finished"),
    [
        ({"epochs": None, "totalSteps": 5}, 0),
        ({"epochs": None, "totalSteps": 20}, 1),
        ({"epochs": None, "totalSteps": 26}, 2),
        ({"epochs": 3}, 3),
    ],
    ids=["in-the-first", "in-the-second", "at-the-end-of-one", "by-epochs"],
)
@pytest.mark.parametrize("dataset", ["uncounted", "by_index"])
def test_status_counts_the_epochs_that_are_over(
    dataset: str, changes: dict[str, Any], finished: int, make_job: MakeJob
) -> None:
    job = make_job(datasetFunction=dataset, modelFunction="small_model", **changes)
    told = job.folder / "beats"
    patch = job.folder / "patch.py"
    patch.write_text(
        "from pathlib import Path\nfrom tests.unit.trainer import beats\n"
        f"beats.keep_in(Path({str(told)!r}))\n"
    )
    job.patches.append(patch)
    job.run_to_end()
    last = beats.kept_in(told)[-1].position
    assert (last.epoch, last.step) == (finished, job.last_manifest.step)


def test_a_job_may_be_made_longer(make_job: MakeJob, whole: Whole) -> None:
    longer = make_job(datasetFunction="shuffled", epochs=2)
    longer.run_to_end()
    longer.config["epochs"] = 3
    longer.run_to_end()
    assert longer.outcome() == whole("shuffled").outcome()


CONVOLUTION = """
import keras
import tensorflow as tf
from rtj_trainer.data import indexed

def build_dataset():
    def batch(numbers):
        value = tf.cast(numbers, tf.float32)[:, None, None, None]
        grid = tf.sin(value + tf.reshape(tf.range(64 * 64 * 8, dtype=tf.float32), [1, 64, 64, 8]))
        return grid, tf.cos(value[:, 0, 0])
    return indexed(64, 16).map(batch)

def build_model():
    model = keras.Sequential([
        keras.Input((64, 64, 8)),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(1),
    ])
    model.compile("adam", "mse", jit_compile=False)
    return model
"""


def test_a_node_with_another_number_of_cores_gives_the_same_weights(make_job: MakeJob) -> None:
    def cores(job: Job, count: int) -> None:
        patch = job.folder / "cores.py"
        patch.write_text(f"import os\nos.sched_getaffinity = lambda _: set(range({count}))\n")
        job.patches = [patch]

    whole, moved = make_job(CONVOLUTION, epochs=4), make_job(CONVOLUTION, epochs=4)
    cores(whole, 2)
    whole.run_to_end()
    cores(moved, 2)
    assert moved.run(Kill("step", 7, TERM)) == ExitCode.PREEMPTED
    cores(moved, 4)
    moved.run_to_end()
    assert moved.outcome() == whole.outcome()


def test_a_damaged_commit_is_passed_over_and_the_loss_is_reported(
    make_job: MakeJob, whole: Whole
) -> None:
    job = make_job(datasetFunction="shuffled")
    job.run(Kill("step", 15, TERM))
    newest = job.directory.commit(job.directory.commit_ids()[-1])
    data = newest / "state.safetensors"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(bytes(content))
    assert job.run(expectedStep=15) == ExitCode.COMPLETED
    assert "commit 000000000015-000001 was rejected: state.safetensors" in job.log
    assert "going on from step 10, although step 15 was committed" in job.log
    assert "commit 000000000015-000001: state.safetensors" in job.log, "what the operator is told"
    assert job.outcome() == whole("shuffled").outcome()


def test_a_lost_position_is_never_a_silent_restart(make_job: MakeJob) -> None:
    job = make_job(datasetFunction="by_index")
    assert job.run(expectedStep=5) == ExitCode.PERMANENT
    assert job.final_record["reason"] == "PositionLost"
    assert "had committed step 5, but no commit is there" in job.final_record["message"]
    assert not job.directory.commit_ids()


@pytest.fixture(scope="module")
def stopped(make_job: MakeJob) -> Job:
    """A job that was stopped in its first epoch; it is not to be changed, but copied."""
    job = make_job(datasetFunction="shuffled", modelFunction="small_model")
    assert job.run(Kill("step", 7, TERM)) == ExitCode.PREEMPTED
    return job


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 8}, "the seed (7 -> 8)"),
        ({"datasetParams": {"batch_size": 10}}, "datasetParams (batch_size: absent -> 10"),
        ({"modelParams": {"units": 9}}, "modelParams (units: absent -> 9)"),
        ({"datasetFunction": "by_index"}, "the way that the position is kept (iterator -> index)"),
    ],
    ids=["seed", "dataset", "model", "function"],
)
def test_a_changed_job_is_refused_with_what_changed(
    change: dict[str, Any], words: str, stopped: Job, tmp_path: Path
) -> None:
    job = copy_of(stopped, tmp_path)
    _change(job, change)
    assert job.run() == ExitCode.PERMANENT
    assert job.final_record["reason"] == "FingerprintMismatch"
    assert words in job.final_record["message"]


def _change(job: Job, change: dict[str, Any]) -> None:
    for key, value in change.items():
        target = job.config["builder"] if key in job.config["builder"] else job.config
        target[key] = value


def test_a_changed_builder_source_is_refused(make_job: MakeJob) -> None:
    source = (BUILDERS / "builder.py").read_text()
    job = make_job(source, datasetFunction="by_index", modelFunction="small_model")
    job.run(Kill("step", 7, TERM))
    (job.folder / "builder" / "builder.py").write_text(source.replace("% 5.0", "% 4.0"))
    assert job.run() == ExitCode.PERMANENT
    assert "the builder's source (builder:" in job.final_record["message"]
