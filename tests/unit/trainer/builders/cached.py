"""The examples of `builder.by_index`, one by one, from pipelines that are read in several ways."""

import pathlib

import tensorflow as tf
from builder import _features, build_model, small_model  # noqa: F401 - the trainer calls models
from rtj_trainer import data


def saved(count: int = 100):
    """Read by a saved iterator."""
    return tf.data.Dataset.range(count).map(_one)


def shuffled(count: int = 100):
    """Read by a saved iterator with a buffer and a generator."""
    return tf.data.Dataset.range(count).shuffle(30).map(_one, num_parallel_calls=2).prefetch(2)


def replayed(count: int = 100):
    """Read again from the beginning after a kill."""
    noise = tf.data.Dataset.range(count).map(lambda n: (n, tf.random.uniform([])))
    return noise.map(lambda n, noise: (_one(n)[0] + noise, _one(n)[1]))


def by_place(count: int = 100):
    """Made from a source of `rtj_trainer.data`, with its ids."""
    source = data.objects(range(count), tf.TensorSpec([], tf.int64))
    batches = data.batches(source, 10, shuffle=False)
    return batches.map(lambda batch: _features(batch.data)).unbatch()


def of_a_file(path: str):
    """The numbers in the lines of a file."""
    lines = tf.data.TextLineDataset(path)
    return lines.map(lambda line: _one(tf.strings.to_number(line, tf.int64)))


def of_another_process(path: str):
    """Depends on what is in a file when it is built: no two processes need agree."""
    first = int(pathlib.Path(path).read_text())
    return tf.data.Dataset.range(first, first + 100).map(_one)


def batched():
    return saved().batch(8).prefetch(1)


def endless():
    return saved().repeat()


def windows():
    return tf.data.Dataset.range(20).window(5)


def flipped(batch, seed, share: float):
    """Negate some features, others in every epoch."""
    x, y = batch
    chosen = tf.random.stateless_uniform([tf.shape(x)[0], 1], seed) < share
    return tf.where(chosen, -x, x), y


def _one(number):
    x, y = _features(tf.reshape(number, [1])).data
    return x[0], y[0]
