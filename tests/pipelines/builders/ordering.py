"""Pipelines that differ in what decides the order of their examples."""

from typing import Any

import tensorflow as tf
from rtj_trainer.data import Tagged, indexed

data = tf.data.Dataset


def shuffle_before_repeat() -> Any:
    """`shuffle`, `repeat` within the epoch"""
    return data.range(16).shuffle(16).repeat(2).batch(4)


def shuffle_after_repeat() -> Any:
    """`repeat` within the epoch, `shuffle`"""
    return data.range(16).repeat(2).shuffle(16).batch(4)


def shuffle_without_seed() -> Any:
    """`shuffle` without a seed, `batch`, `prefetch`"""
    return data.range(30).shuffle(30).batch(4).prefetch(tf.data.AUTOTUNE)


def shuffle_with_seed() -> Any:
    """`shuffle(seed=…)`, buffer smaller than the data"""
    return data.range(30).shuffle(8, seed=5).batch(4)


def shuffle_the_same() -> Any:
    """`shuffle(reshuffle_each_iteration=False)`"""
    return data.range(30).shuffle(30, reshuffle_each_iteration=False).batch(4)


def shuffle_twice() -> Any:
    """`shuffle` of files, then of examples"""
    files = data.range(6).shuffle(6)
    return files.interleave(lambda file: data.range(file, file + 9)).shuffle(20).batch(8)


def shuffle_in_two_places() -> Any:
    """`shuffle`, `batch`, `shuffle` of batches"""
    return data.range(40).shuffle(40).batch(4).shuffle(5)


def shuffle_unseeded_by_the_builder() -> Any:
    """`tf.random.set_seed(…)` in the builder, `shuffle`"""
    tf.random.set_seed(11)
    return data.range(30).shuffle(30).batch(4)


def shuffle_seeded_by_the_clock() -> Any:
    """`shuffle(seed=int(time.time_ns()))`"""
    import time

    return data.range(30).shuffle(30, seed=time.time_ns() % 2**31).batch(4)


def shuffle_within_interleave() -> Any:
    """`shuffle` within the function of `interleave`"""
    return data.range(4).interleave(lambda file: data.range(file, file + 9).shuffle(9)).batch(4)


def endless() -> Any:
    """`shuffle`, `repeat()` without an end"""
    return data.range(16).shuffle(16).repeat().batch(4)


def interleave() -> Any:
    """`interleave`, one after the other"""
    return data.range(6).interleave(lambda n: data.range(n * 10, n * 10 + 7), cycle_length=3)


def interleave_parallel() -> Any:
    """`interleave(num_parallel_calls=…)`"""
    return data.range(6).interleave(
        lambda n: data.range(n * 10, n * 10 + 7),
        cycle_length=3,
        block_length=2,
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def interleave_not_deterministic() -> Any:
    """`interleave(deterministic=False)`"""
    return data.range(6).interleave(
        lambda n: data.range(n), num_parallel_calls=2, deterministic=False
    )


def options_not_deterministic() -> Any:
    """`options.deterministic = False`"""
    options = tf.data.Options()
    options.deterministic = False
    return data.range(20).map(lambda n: n + 1, num_parallel_calls=2).with_options(options)


def flat_map() -> Any:
    """`flat_map`, `shuffle`"""
    return data.range(8).flat_map(lambda n: data.range(n, n + 4)).shuffle(32).batch(4)


def map_parallel() -> Any:
    """`map(num_parallel_calls=…)`, `shuffle`"""
    return data.range(30).map(lambda n: n * n, num_parallel_calls=tf.data.AUTOTUNE).shuffle(9)


def map_and_batch() -> Any:
    """`map_and_batch`"""
    fused = tf.data.experimental.map_and_batch(lambda n: n * n, 4, num_parallel_calls=2)
    return data.range(30).shuffle(30).apply(fused)


def sample_from_datasets() -> Any:
    """`sample_from_datasets`"""
    return data.sample_from_datasets([data.range(9), data.range(10, 29)], [0.5, 0.5], seed=3).batch(
        3
    )


def sample_from_datasets_anew() -> Any:
    """`sample_from_datasets(rerandomize_each_iteration=True)` of shuffled, repeated datasets"""
    parts = [data.range(9).shuffle(9).repeat(), data.range(10, 19).shuffle(9).repeat()]
    mixed = data.sample_from_datasets(parts, [0.3, 0.7], seed=3, rerandomize_each_iteration=True)
    return mixed.batch(3).take(8)


def choose_from_datasets() -> Any:
    """`choose_from_datasets`"""
    choice = data.range(2).repeat(9)
    return data.choose_from_datasets([data.range(9), data.range(10, 19)], choice).batch(3)


def zipped() -> Any:
    """`zip` of two shuffles"""
    return data.zip(data.range(20).shuffle(20), data.range(20, 45).shuffle(25)).batch(4)


def zipped_with_itself() -> Any:
    """`zip` of one shuffle with itself, each repeated"""
    shuffled = data.range(9).shuffle(9)
    return data.zip(shuffled.repeat(3), shuffled.repeat(3).map(lambda n: n + 1)).batch(4)


def zipped_with_itself_prefetched() -> Any:
    """`zip` of one shuffle with itself, each repeated, one prefetched"""
    shuffled = data.range(9).shuffle(9)
    return data.zip(shuffled.repeat(3), shuffled.repeat(3).prefetch(8)).batch(4)


def concatenated() -> Any:
    """`concatenate` of two shuffles"""
    return data.range(13).shuffle(13).concatenate(data.range(20, 31).shuffle(11)).batch(4)


def concatenated_then_shuffled() -> Any:
    """`concatenate`, then `shuffle`"""
    return data.range(13).concatenate(data.range(20, 31)).shuffle(24).batch(4)


def indexed_source() -> Any:
    """`rtj_trainer.data.indexed`, `map`, `prefetch`"""
    table = tf.range(100, 122)
    return indexed(22, 4).map(lambda i: Tagged(i, tf.gather(table, i))).prefetch(2)


def indexed_source_parallel() -> Any:
    """`indexed`, `map(num_parallel_calls=…)` with `tf.random.stateless_*`"""

    def noisy(indices: Any) -> Any:
        noise = tf.random.stateless_uniform(tf.shape(indices), seed=[indices[0], 7])
        return tf.cast(indices, tf.float32) + noise

    return indexed(22, 4).map(noisy, num_parallel_calls=tf.data.AUTOTUNE)


def indexed_then_shuffled() -> Any:
    """`indexed`, `shuffle`"""
    return indexed(22, 4).shuffle(5)
