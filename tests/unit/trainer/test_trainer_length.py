"""Epochs are counted rightly also where TensorFlow is mistaken about how long one is."""

import pytest
from rtj_api.names import ExitCode

from tests.unit.trainer.support import Kill, MakeJob

pytestmark = pytest.mark.unit

BUILDER = """
from pathlib import Path

import keras
import tensorflow as tf

def build_dataset():
    # 17 examples are in the files, and 3 of them are read.
    saved = str(Path(__file__).with_name("saved"))
    if not Path(saved).exists():
        tf.data.Dataset.range(17).save(saved)
    few = tf.data.Dataset.load(saved, reader_func=lambda shards: shards.flat_map(_few))
    return few.map(lambda n: (tf.cast(n, tf.float32), 1.0)).batch(1)

def _few(shard):
    return shard.take(3)

def build_model():
    model = keras.Sequential([keras.Input([]), keras.layers.Reshape([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    return model
"""


def test_a_length_that_a_reader_makes_untrue_is_not_believed(make_job: MakeJob) -> None:
    job = make_job(BUILDER)
    job.run_to_end(Kill("step", 4, "SIGTERM"))
    assert (job.last_manifest.step, job.last_manifest.epoch) == (9, 2)


def test_an_epoch_of_another_length_than_was_said_ends_the_job(make_job: MakeJob) -> None:
    job = make_job(BUILDER)
    patch = job.folder / "patch.py"
    lines = ["from rtj_trainer.preflight import strategy", "strategy.MISTAKEN_LENGTH = set()"]
    patch.write_text("\n".join(lines))
    job.patches.append(patch)
    assert job.run() == ExitCode.USER_ERROR
    assert "epoch 0 had 3 batches, although the dataset said" in job.final_record["message"]
    assert "which makes the length unknown" in job.final_record["message"]
