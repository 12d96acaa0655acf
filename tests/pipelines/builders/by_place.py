"""Pipelines that start from a source of `rtj_trainer.data`, read by place."""

import itertools
from typing import Any

import numpy as np
import tensorflow as tf
from rtj_trainer import data


def tfrecords(folder: str) -> Any:
    """`tfrecords`, `parse_example`, `prefetch`"""
    features = {"x": tf.io.FixedLenFeature([2], tf.float32)}
    source = data.tfrecords([f"{folder}/records-0", f"{folder}/records-1"])
    return data.batches(source, 4, lambda raw: tf.io.parse_example(raw, features)).prefetch(2)


def tfrecords_in_order(folder: str) -> Any:
    """`tfrecords`, `batches(shuffle=False, drop_remainder=True)`"""
    source = data.tfrecords(f"{folder}/records-0")
    return data.batches(source, 4, shuffle=False, drop_remainder=True)


def tfrecords_gzip(folder: str) -> Any:
    """`tfrecords` of a GZIP file"""
    return data.batches(data.tfrecords(f"{folder}/records-0.gz"), 4)


def arrayrecords(folder: str) -> Any:
    """`arrayrecords`, `decode_raw`, `prefetch`"""
    source = data.arrayrecords([f"{folder}/groups-{size}" for size in (1, 4)])
    return data.batches(source, 4, lambda raw: tf.io.decode_raw(raw, tf.int32)).prefetch(2)


def arrayrecords_in_order(folder: str) -> Any:
    """`arrayrecords`, `batches(shuffle=False, drop_remainder=True)`"""
    source = data.arrayrecords(f"{folder}/groups-4")
    return data.batches(source, 4, shuffle=False, drop_remainder=True)


def arrayrecords_gzip(folder: str) -> Any:
    """`arrayrecords` of a GZIP file"""
    return data.batches(data.arrayrecords(f"{folder}/groups-1.gz"), 4)


def csv_rows(folder: str) -> Any:
    """`csv_rows(header=True)`, newlines in quotes, `decode_csv`"""
    rows = data.csv_rows(f"{folder}/quoted.csv", header=True)

    def decode(lines: Any) -> Any:
        return dict(zip(rows.columns, tf.io.decode_csv(lines, [0, ""]), strict=True))

    return data.batches(rows, 4, decode).prefetch(tf.data.AUTOTUNE)


def csv_rows_without_header(folder: str) -> Any:
    """`csv_rows(header=False)` of two files"""
    rows = data.csv_rows([f"{folder}/bare.csv", f"{folder}/bare.csv"], header=False)
    return data.batches(rows, 5, lambda lines: tf.io.decode_csv(lines, [0, 0.0, ""]))


def csv_rows_gzip(folder: str) -> Any:
    """`csv_rows` of a GZIP file"""
    return data.batches(data.csv_rows(f"{folder}/bare.csv.gz", header=False), 4)


def arrays() -> Any:
    """`arrays` in memory"""
    given = {"x": np.arange(60.0).reshape(20, 3), "y": np.arange(20)}
    return data.batches(data.arrays(given), 3)


def arrays_mapped(folder: str) -> Any:
    """`arrays` of an `.npy` file, then `map` with `tf.random.stateless_*`"""
    batches = data.batches(data.arrays(f"{folder}/numbers.npy"), 4)

    def noisy(batch: Any) -> Any:
        noise = tf.random.stateless_normal(
            tf.shape(batch.data), [batch.ids[0], 7], dtype=tf.float64
        )
        return data.Tagged(batch.ids, batch.data + noise)

    return batches.map(noisy, num_parallel_calls=tf.data.AUTOTUNE)


def arrays_npz(folder: str) -> Any:
    """`arrays` of an `.npz` file with strings"""
    return data.batches(data.arrays(f"{folder}/both.npz"), 4)


class _Squares:
    def __len__(self) -> int:
        return 22

    def __getitem__(self, place: int) -> Any:
        return np.full(3, place * place, np.float32), f"number {place}"


_SQUARE = (tf.TensorSpec([3], tf.float32), tf.TensorSpec([], tf.string))


def objects() -> Any:
    """`objects` of a Python class"""
    return data.batches(data.objects(_Squares(), _SQUARE), 4).prefetch(3)


class _Noisy(_Squares):
    def __getitem__(self, place: int) -> Any:
        return np.full(3, np.random.rand(), np.float32), ""


def objects_random() -> Any:
    """`objects` with random numbers"""
    return data.batches(data.objects(_Noisy(), _SQUARE), 4)


class _Counting(_Squares):
    calls = itertools.count()

    def __getitem__(self, place: int) -> Any:
        return np.full(3, next(self.calls), np.float32), ""


def objects_counting() -> Any:
    """`objects` that count their reads"""
    return data.batches(data.objects(_Counting(), _SQUARE), 4)


def filtered(folder: str) -> Any:
    """`filtered` rows of a CSV file"""
    rows = data.csv_rows(f"{folder}/table.csv", header=True)
    kept = data.filtered(rows, lambda lines: tf.io.decode_csv(lines, [0, 0.0, ""])[0] % 3 > 0)
    return data.batches(kept, 4)


def filtered_at_random() -> Any:
    """`filtered` by `tf.random.uniform`"""
    numbers = data.arrays(np.arange(20))
    return data.batches(data.filtered(numbers, lambda n: tf.random.uniform(tf.shape(n)) < 0.5), 4)


def filtered_by_table() -> Any:
    """`filtered` by a lookup table"""
    keys = tf.range(9, dtype=tf.int64)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, keys), -1)
    return data.batches(data.filtered(data.arrays(np.arange(20)), lambda n: table.lookup(n) > 0), 4)


def mixed(folder: str) -> Any:
    """`mixed` of two sources, one of which comes round several times"""
    small, large = (data.tfrecords(f"{folder}/records-{number}") for number in range(2))
    return data.batches(data.mixed([small, large], [3, 1]), 5)


def mixed_of_filtered() -> Any:
    """`mixed` of a filtered source and arrays"""
    even = data.filtered(data.arrays(np.arange(20)), lambda n: n % 2 == 0)
    return data.batches(data.mixed([even, data.arrays(np.arange(100, 109))], [1, 1]), 4)


def with_numpy_function() -> Any:
    """`batches`, `numpy_function` in `decode`"""
    return data.batches(
        data.arrays(np.arange(20)), 4, lambda n: tf.numpy_function(np.negative, [n], tf.int64)
    )


def then_filter() -> Any:
    """`batches`, `filter`"""
    batches = data.batches(data.arrays(np.arange(20)), 4)
    return batches.filter(lambda batch: tf.reduce_sum(batch.data) > 9)
