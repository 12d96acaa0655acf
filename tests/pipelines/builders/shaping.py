"""Pipelines that differ in how examples become batches."""

from typing import Any

import tensorflow as tf

data = tf.data.Dataset


def _lengths(count: int = 24) -> Any:
    """Return shuffled vectors of lengths 1 to 5."""
    return data.range(count).shuffle(count).map(lambda n: tf.fill([1 + n % 5], n))


def _worked(n: Any) -> Any:
    """Return a number after some work, so that reading ahead takes its time."""
    ones = tf.random.stateless_uniform([200, 200], seed=[1, 2])
    return n + tf.cast(0 * tf.reduce_sum(ones), n.dtype)


def window() -> Any:
    """`window`, `flat_map`"""
    windows = data.range(40).shuffle(40).window(6, shift=4, drop_remainder=True)
    return windows.flat_map(lambda part: part.batch(6))


def window_zip() -> Any:
    """`window` of pairs, `zip` within `flat_map`"""
    windows = data.zip(data.range(30), data.range(30, 60)).window(5, shift=2)
    return windows.flat_map(lambda a, b: data.zip(a.batch(5), b.batch(5))).shuffle(9)


def group_by_window() -> Any:
    """`group_by_window`"""
    return (
        data.range(30)
        .shuffle(30)
        .group_by_window(lambda n: n % 3, lambda key, part: part.batch(4), window_size=4)
    )


def bucket_by_sequence_length() -> Any:
    """`bucket_by_sequence_length`"""
    return _lengths().bucket_by_sequence_length(tf.size, [2, 4], [4, 4, 4])


def rebatch() -> Any:
    """`batch`, `rebatch`"""
    return data.range(40).shuffle(40).batch(6).rebatch(4)


def unbatch() -> Any:
    """`batch`, `unbatch`, `shuffle`"""
    return data.range(30).batch(6).unbatch().shuffle(30).batch(4)


def batch_parallel() -> Any:
    """`batch(num_parallel_calls=…, drop_remainder=True)`"""
    return data.range(30).shuffle(30).batch(4, drop_remainder=True, num_parallel_calls=2)


def padded_batch() -> Any:
    """`padded_batch`"""
    return _lengths().padded_batch(4)


def ragged_batch() -> Any:
    """`ragged_batch`"""
    return _lengths().ragged_batch(4)


def ragged_slices() -> Any:
    """`from_tensor_slices` of a RaggedTensor, `shuffle`, `batch`"""
    rows = tf.RaggedTensor.from_row_lengths(tf.range(30), [1, 2, 3, 4, 5] * 2)
    return data.from_tensor_slices(rows).shuffle(10).ragged_batch(2)


def sparse_batch() -> Any:
    """`apply(dense_to_sparse_batch)`"""
    return _lengths().apply(tf.data.experimental.dense_to_sparse_batch(4, [6]))


def sparse_slices() -> Any:
    """`from_tensor_slices` of a SparseTensor, `shuffle`, `batch`"""
    rows = tf.sparse.from_dense(tf.reshape(tf.range(40) % 4, [20, 2]))
    return data.from_tensor_slices(rows).shuffle(20).batch(4)


def take_and_skip() -> Any:
    """`skip`, `take` after `shuffle`"""
    return data.range(50).shuffle(50).skip(5).take(25).batch(4)


def take_of_repeated() -> Any:
    """`shuffle`, `repeat()`, `map`, `batch`, `take` for the steps of an epoch"""
    return data.range(16).shuffle(16).repeat().map(_worked).batch(4).map(_worked).take(3)


def take_before_prefetch() -> Any:
    """`shuffle`, `repeat()`, `batch`, `take`, then parallel `map`, `prefetch`"""
    batches = data.range(16).shuffle(16).repeat().batch(4).take(3)
    return batches.map(_worked, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def take_after_prefetch() -> Any:
    """`shuffle`, `repeat()`, `batch`, `prefetch`, `take`"""
    return data.range(16).shuffle(16).repeat().batch(4).prefetch(tf.data.AUTOTUNE).take(3)


def take_after_parallel_map() -> Any:
    """`shuffle`, `repeat()`, `map(num_parallel_calls=…)`, `take`"""
    shuffled = data.range(16).shuffle(16).repeat()
    return shuffled.map(_worked, num_parallel_calls=tf.data.AUTOTUNE).take(12).batch(4)


def take_all_after_prefetch() -> Any:
    """`shuffle`, `repeat(2)`, `batch`, `prefetch`, `take` of all batches"""
    return data.range(16).shuffle(16).repeat(2).batch(4).prefetch(8).take(8)


def take_of_prefetched() -> Any:
    """`shuffle`, parallel `map`, `prefetch`, `take`, without `repeat`"""
    shuffled = data.range(32).shuffle(32)
    return shuffled.map(_worked, num_parallel_calls=2).prefetch(8).take(12).batch(4)


def zip_of_repeated() -> Any:
    """`zip` with a repeated shuffle that is longer"""
    return data.zip(data.range(12), data.range(8).shuffle(8).repeat().map(_worked)).batch(4)


def zip_of_prefetched() -> Any:
    """`zip` with a repeated shuffle that is longer and prefetched"""
    return data.zip(data.range(12), data.range(8).shuffle(8).repeat().prefetch(8)).batch(4)


def take_while() -> Any:
    """`shuffle`, `take_while`"""
    return data.range(50).shuffle(12).take_while(lambda n: n < 40).batch(4)


def filtered() -> Any:
    """`shuffle`, `filter`, `batch`"""
    return data.range(50).shuffle(50).filter(lambda n: n % 3 != 0).batch(4)


def scan() -> Any:
    """`scan`"""
    return (
        data.range(30).shuffle(30).scan(tf.constant(0, tf.int64), lambda s, n: (s + n, s)).batch(4)
    )


def unique() -> Any:
    """`unique`"""
    return data.range(40).shuffle(40).map(lambda n: n // 2).unique().batch(4)


def group_by_reducer() -> Any:
    """`group_by_reducer`"""
    reducer = tf.data.experimental.Reducer(
        lambda _: tf.constant(0, tf.int64), lambda state, n: state + n, lambda state: state
    )
    grouped = tf.data.experimental.group_by_reducer(lambda n: n % 7, reducer)
    return data.range(40).shuffle(40).apply(grouped)


def enumerated() -> Any:
    """`shuffle`, `enumerate`, `map` with `tf.random.stateless_*`"""
    numbered = data.range(30).shuffle(30).enumerate()
    return numbered.map(lambda n, x: (x, tf.random.stateless_uniform([], seed=[n, x]))).batch(4)


def assert_cardinality() -> Any:
    """`filter`, `assert_cardinality`"""
    kept = data.range(40).shuffle(40).filter(lambda n: n % 2 == 0)
    return kept.apply(tf.data.experimental.assert_cardinality(20)).batch(4)


def ignore_errors() -> Any:
    """`map` that fails for some, `ignore_errors`"""

    def strict(n: Any) -> Any:
        tf.debugging.assert_none_equal(n % 5, tf.constant(3, tf.int64))
        return n

    return data.range(40).shuffle(40).map(strict).ignore_errors().batch(4)


def check_numerics() -> Any:
    """`tf.debugging.check_numerics` in `map`"""
    return data.range(30).map(lambda n: tf.debugging.check_numerics(1 / (n - 9), "inf")).batch(4)
