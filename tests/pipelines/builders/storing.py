"""Pipelines that keep examples somewhere: caches, files, devices."""

from typing import Any

import tensorflow as tf

data = tf.data.Dataset


def cache_then_shuffle() -> Any:
    """`cache` in memory, `shuffle`"""
    return data.range(30).map(lambda n: n * 2).cache().shuffle(30).batch(4)


def shuffle_then_cache() -> Any:
    """`shuffle`, `cache` in memory"""
    return data.range(30).shuffle(30).cache().batch(4)


def cache_alone() -> Any:
    """`batch`, `cache` in memory, `prefetch`"""
    return data.range(30).batch(4).cache().prefetch(2)


def cache_read_twice() -> Any:
    """`cache` in memory, read by both branches of a `zip`, one of them shuffled"""
    cached = data.range(30).map(lambda n: n * 2).cache()
    return data.zip(cached, cached.shuffle(30)).batch(4)


def cache_read_twice_at_other_places() -> Any:
    """`cache` in memory, read by both branches of a `zip`, one of them with `skip`"""
    cached = data.range(30).map(lambda n: n * 2).cache()
    return data.zip(cached, cached.skip(3)).batch(4)


def cache_for_a_function() -> Any:
    """`cache` in memory, read by each call of the function of `interleave`"""
    cached = data.range(12).map(lambda n: n * 2).cache()
    return data.range(3).interleave(lambda n: cached.skip(n), cycle_length=2).batch(4)


def cache_within_interleave() -> Any:
    """`cache` within the function of `interleave`"""
    return data.range(4).interleave(lambda n: data.range(n, n + 5).cache()).batch(4)


def cache_in_a_file(folder: str) -> Any:
    """`cache(file)`"""
    return data.range(30).cache(f"{folder}/cache").batch(4)


def snapshot(folder: str) -> Any:
    """`snapshot`"""
    return data.range(30).snapshot(f"{folder}/snapshot").batch(4)


def prefetch_to_device() -> Any:
    """`prefetch_to_device`"""
    return data.range(30).batch(4).apply(tf.data.experimental.prefetch_to_device("/cpu:0"))


def copy_to_device() -> Any:
    """`copy_to_device`, `prefetch`"""
    copied = data.range(30).batch(4).apply(tf.data.experimental.copy_to_device("/cpu:0"))
    return copied.prefetch(1)


def prefetch_many() -> Any:
    """`shuffle`, `batch`, `prefetch(8)`: more than an epoch ahead"""
    return data.range(20).shuffle(20).batch(4).prefetch(8)


def symbolic_checkpoint() -> Any:
    """`with_options`: symbolic checkpoints, which the trainer switches off"""
    options = tf.data.Options()
    options.experimental_symbolic_checkpoint = True
    return data.range(30).cache().shuffle(30).batch(4).with_options(options)


def autotune_options() -> Any:
    """`with_options`: private threads, map and batch fused, autotuning off"""
    options = tf.data.Options()
    options.threading.private_threadpool_size = 2
    options.experimental_optimization.map_and_batch_fusion = True
    options.autotune.enabled = False
    return data.range(30).shuffle(30).map(lambda n: n * 2).batch(4).with_options(options)
