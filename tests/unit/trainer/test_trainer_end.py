"""A trainer that has said its last word is gone at once: a grace period is not for cleaning up."""

import pytest

from tests.unit.trainer.support import Kill, MakeJob

pytestmark = pytest.mark.unit

BUILDER = """
import weakref

import keras
import tensorflow as tf

def build_dataset():
    dataset = tf.data.Dataset.range(40).map(lambda n: (tf.cast(n, tf.float32), 1.0)).batch(4)
    weakref.finalize(dataset, print, "an iterator was destroyed")
    return dataset

def build_model():
    model = keras.Sequential([keras.Input([]), keras.layers.Reshape([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model
"""


def test_no_end_waits_for_tensorflow_to_destroy_the_iterator(make_job: MakeJob) -> None:
    job = make_job(BUILDER)
    # The second dataset is the one that is trained on; the first one, of the checks, may go.
    job.run_to_end(Kill("step", 12, "SIGTERM"))
    assert job.log.count("exit ") == 2
    assert job.log.count("an iterator was destroyed") <= 1
