"""A job that is killed ends as if it never was, whichever source of `rtj_trainer.data` it reads.

All but the mixture give the same 100 examples as `builder.by_index`, so that one uninterrupted run
is what all of them must equal: 3 epochs of 13 batches, a commit every 5 steps. `tests/pipelines`
restores each of them at several places.
"""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter
from rtj_api.names import ExitCode

from tests.unit.trainer.support import Job, Kill, MakeJob, Whole

pytestmark = pytest.mark.unit

# A commit is certainly durable only when the next one is due: that of step 5 at step 10.
IN_THE_FIRST_EPOCH = Kill("step", 12)
BETWEEN_TWO_EPOCHS = Kill("batch", 14)
IN_THE_LAST_EPOCH = Kill("step", 34)


def example(number: int) -> bytes:
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
    features = tf.train.Features(feature={"n": feature})
    return bytes(tf.train.Example(features=features).SerializeToString())


def write_records(path: Path, numbers: range) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in numbers:
            writer.write(example(number))


def write_groups(path: Path, numbers: range) -> None:
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for number in numbers:
        writer.write(example(number))
    writer.close()


def write_rows(path: Path, numbers: range) -> None:
    rows = "".join(f'{number},"two\nlines, one ""row"""\r\n' for number in numbers)
    path.write_bytes(b"n,text\r\n" + rows.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, numbers in (("a", range(60)), ("b", range(60, 100))):
        write_records(folder / f"{name}.tfrecord", numbers)
        write_rows(folder / f"{name}.csv", numbers)
        write_groups(folder / f"{name}.array_record", numbers)
    np.save(folder / "n.npy", np.arange(100))
    np.save(folder / "twice.npy", np.arange(200))
    return folder


def job_of(make_job: MakeJob, source: str, folder: Path) -> Job:
    params = {"folder": str(folder)}
    return make_job(
        module="sources",
        datasetFunction=source,
        modelFunction="small_model",
        datasetParams=params,
    )


@pytest.mark.parametrize(
    ("source", "kill"),
    [
        ("tfrecords", IN_THE_FIRST_EPOCH),
        ("csv_rows", BETWEEN_TWO_EPOCHS),
        ("arrayrecords", IN_THE_LAST_EPOCH),
        ("arrays", IN_THE_FIRST_EPOCH),
        ("objects", BETWEEN_TWO_EPOCHS),
        ("filtered", IN_THE_LAST_EPOCH),
    ],
)
def test_a_killed_job_trains_on_what_an_uninterrupted_one_does(
    source: str, kill: Kill, make_job: MakeJob, folder: Path, whole: Whole
) -> None:
    job = job_of(make_job, source, folder)
    job.run_to_end(kill)
    assert job.last_manifest.strategy == "index"
    assert job.outcome() == whole("by_index", model="small_model").outcome()


def test_a_killed_job_on_a_mixture_ends_as_an_uninterrupted_one(
    make_job: MakeJob, folder: Path
) -> None:
    whole, killed = (job_of(make_job, "mixed", folder) for _ in range(2))
    whole.run_to_end()
    killed.run_to_end(Kill("step", 40))
    assert killed.outcome() == whole.outcome()
    assert "its sources come round 2.98, 1.00 times" in whole.log


def test_a_job_killed_while_it_keeps_an_index_makes_it_again_and_the_next_uses_it(
    make_job: MakeJob, folder: Path, whole: Whole
) -> None:
    job = job_of(make_job, "tfrecords", folder)
    kill = Kill("index", before=True)
    assert job.run(kill) == -9
    indices = job.folder / "volume" / "indices"
    assert not [path for path in indices.glob("*") if not path.name.startswith(".")]
    job.run_to_end(Kill("step", 3), goes_on=False)
    assert job.outcome() == whole("by_index", model="small_model").outcome()
    assert job.log.count("a.tfrecord, once") == 2
    assert sorted(path.name[0] == "." for path in indices.iterdir()) == [False, False]


def test_a_job_whose_data_changed_is_refused_with_the_file_that_did(
    make_job: MakeJob, folder: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_records(tmp_path / f"{name}.tfrecord", range(50))
    job = job_of(make_job, "tfrecords", tmp_path)
    assert job.run(Kill("step", 7, "SIGTERM")) == ExitCode.PREEMPTED
    write_records(tmp_path / "b.tfrecord", range(1, 51))
    assert job.run() == ExitCode.PERMANENT
    assert job.final_record["reason"] == "FingerprintMismatch"
    message = job.final_record["message"]
    assert f"the data that rtj_trainer.data reads ({tmp_path}/b.tfrecord: 50 records, " in message
    assert "a.tfrecord" not in message


def test_the_same_data_written_anew_is_no_change(
    make_job: MakeJob, tmp_path: Path, whole: Whole
) -> None:
    for name, numbers in (("a", range(60)), ("b", range(60, 100))):
        write_records(tmp_path / f"{name}.tfrecord", numbers)
    job = job_of(make_job, "tfrecords", tmp_path)
    assert job.run(Kill("step", 7, "SIGTERM")) == ExitCode.PREEMPTED
    write_records(tmp_path / "a.tfrecord", range(60))
    job.run_to_end()
    assert job.outcome() == whole("by_index", model="small_model").outcome()
