"""The numbers 0 to 99 from each source of `rtj_trainer.data`, as `builder.by_index` makes them."""

import tensorflow as tf
from builder import _features, small_model  # noqa: F401 - the trainer calls small_model
from rtj_trainer import data

NUMBER = {"n": tf.io.FixedLenFeature([], tf.int64)}


def _train_on(source, decode):
    batches = data.batches(source, 8, lambda raw: _features(decode(raw)).data)
    return batches.prefetch(2)


def tfrecords(folder: str):
    source = data.tfrecords(f"{folder}/*.tfrecord")
    return _train_on(source, lambda raw: tf.io.parse_example(raw, NUMBER)["n"])


def arrayrecords(folder: str):
    source = data.arrayrecords(f"{folder}/*.array_record")
    return _train_on(source, lambda raw: tf.io.parse_example(raw, NUMBER)["n"])


def csv_rows(folder: str):
    source = data.csv_rows([f"{folder}/a.csv", f"{folder}/b.csv"], header=True)
    kinds = [tf.constant([], tf.int64), tf.constant([], tf.string)]
    return _train_on(source, lambda rows: tf.io.decode_csv(rows, kinds)[0])


def arrays(folder: str):
    source = data.arrays({"n": f"{folder}/n.npy"})
    return _train_on(source, lambda rows: rows["n"])


def objects(folder: str):
    source = data.objects(range(100), tf.TensorSpec([], tf.int64))
    return _train_on(source, lambda numbers: numbers)


def filtered(folder: str):
    twice = data.arrays(f"{folder}/twice.npy")
    kept = data.filtered(twice, lambda n: n % 2 == 0)
    return _train_on(kept, lambda n: n // 2)


def mixed(folder: str):
    """Of two sources, one comes round about three times."""
    small = data.tfrecords(f"{folder}/b.tfrecord")
    large = data.tfrecords(f"{folder}/a.tfrecord")
    source = data.mixed([small, large], [2, 1])
    return _train_on(source, lambda raw: tf.io.parse_example(raw, NUMBER)["n"])
