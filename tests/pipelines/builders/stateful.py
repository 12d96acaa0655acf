"""Pipelines whose functions have state: random numbers, Python, variables, tables, clocks."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

data = tf.data.Dataset


def stateless_random() -> Any:
    """`tf.random.stateless_*` with a seed from `enumerate`, parallel `map`"""

    def noisy(number: Any, value: Any) -> Any:
        return tf.cast(value, tf.float32) + tf.random.stateless_normal([], seed=[number, 7])

    return data.range(30).shuffle(30).enumerate().map(noisy, num_parallel_calls=4).batch(4)


def stateful_random() -> Any:
    """`tf.random.uniform` in `map`"""
    return data.range(30).map(lambda n: tf.random.uniform([]) + tf.cast(n, tf.float32)).batch(4)


def stateful_random_parallel() -> Any:
    """`tf.random.uniform` in `map(num_parallel_calls=…)`, `shuffle`, `prefetch`"""

    def noisy(n: Any) -> Any:
        return tf.random.uniform([2], seed=5) + tf.cast(n, tf.float32)

    mapped = data.range(30).shuffle(30).map(noisy, num_parallel_calls=tf.data.AUTOTUNE)
    return mapped.batch(4).prefetch(tf.data.AUTOTUNE)


def stateful_random_then_take() -> Any:
    """`tf.random.uniform` in `map`, another `map`, `take`"""
    noisy = data.range(32).map(lambda n: tf.random.uniform([]) + tf.cast(n, tf.float32))
    return noisy.map(lambda x: x + 1).take(12).batch(4)


def stateful_random_prefetched() -> Any:
    """`tf.random.uniform` in `map`, `prefetch`, `take`"""
    noisy = data.range(32).map(lambda n: tf.random.uniform([]) + tf.cast(n, tf.float32))
    return noisy.prefetch(8).take(12).batch(4)


def image_augmentation() -> Any:
    """`tf.image.random_*` in parallel `map`"""
    images = tf.reshape(tf.range(20 * 12, dtype=tf.float32), [20, 2, 2, 3])

    def augment(image: Any) -> Any:
        image = tf.image.random_flip_left_right(image)
        image = tf.image.random_brightness(image, 0.2)
        return tf.image.random_crop(image, [1, 2, 3])

    dataset = data.from_tensor_slices(images).cache().shuffle(20)
    return dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE).batch(4).prefetch(1)


def stateful_random_in_a_loop() -> Any:
    """`tf.random.uniform` within `tf.map_fn`"""

    def noisy(n: Any) -> Any:
        return tf.map_fn(lambda x: tf.random.uniform([]) + x, tf.fill([3], tf.cast(n, tf.float32)))

    return data.range(20).map(noisy).batch(4)


def stateful_random_in_interleave() -> Any:
    """`tf.random.uniform` in a `map` within `interleave`"""

    def part(n: Any) -> Any:
        return data.range(n, n + 4).map(lambda x: tf.random.uniform([]) + tf.cast(x, tf.float32))

    return data.range(6).interleave(part, num_parallel_calls=2).batch(4)


def stateful_random_filter() -> Any:
    """`filter` by `tf.random.uniform`"""
    return data.range(40).filter(lambda n: tf.random.uniform([]) < 0.5).batch(4)


def random_generator() -> Any:
    """`tf.random.Generator` in `map`"""
    generator = tf.random.Generator.from_seed(1)
    return data.range(20).map(lambda n: generator.uniform([]) + tf.cast(n, tf.float32))


def rejection_resample() -> Any:
    """`rejection_resample`"""
    return data.range(40).rejection_resample(
        lambda n: tf.cast(n % 2, tf.int32), [0.8, 0.2], [0.5, 0.5], seed=3
    )


def py_function_pure() -> Any:
    """`py_function` of a pure function"""
    return data.range(20).map(lambda n: tf.py_function(lambda x: x * 2, [n], tf.int64))


def py_function_impure() -> Any:
    """`py_function` with a counter"""
    calls: list[int] = []

    def count(value: Any) -> Any:
        calls.append(1)
        return value + len(calls)

    return data.range(20).map(lambda n: tf.py_function(count, [n], tf.int64))


def numpy_function_pure() -> Any:
    """`numpy_function` of a pure function"""
    return data.range(20).map(lambda n: tf.numpy_function(np.square, [n], tf.int64))


def numpy_function_impure() -> Any:
    """`numpy_function` with `np.random`"""

    def noisy(value: Any) -> Any:
        return np.float64(value + np.random.rand())

    return data.range(20).map(lambda n: tf.numpy_function(noisy, [n], tf.float64)).shuffle(9)


def python_when_traced() -> Any:
    """Python's `random` in `map`, drawn once when the function is traced"""
    import random

    return data.range(20).shuffle(20).map(lambda n: n + random.randrange(9)).batch(4)  # noqa: S311


def variable() -> Any:
    """A `tf.Variable` in `map`"""
    offset = tf.Variable(1, dtype=tf.int64)
    return data.range(20).map(lambda n: n + offset)


def counting_variable() -> Any:
    """A `tf.Variable` that `map` counts up"""
    calls = tf.Variable(0, dtype=tf.int64)
    return data.range(20).map(lambda n: n + calls.assign_add(1))


def timestamp() -> Any:
    """`tf.timestamp` in `map`"""
    return data.range(20).map(lambda n: tf.timestamp() + tf.cast(n, tf.float64))


def printing() -> Any:
    """`tf.print` in `map`"""

    def show(n: Any) -> Any:
        tf.print(n, output_stream="file:///dev/null")
        return n

    return data.range(20).shuffle(20).map(show).batch(4)


def asserting() -> Any:
    """`tf.debugging.assert_*` in `map`"""

    def strict(n: Any) -> Any:
        tf.debugging.assert_less(n, tf.constant(100, tf.int64))
        return n

    return data.range(20).shuffle(20).map(strict).batch(4)


def static_hash_table() -> Any:
    """`tf.lookup.StaticHashTable` in `map`"""
    keys = tf.range(30, dtype=tf.int64)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, keys * 3), -1)
    return data.range(40).shuffle(40).map(table.lookup).batch(4)


def vocabulary_file(folder: str) -> Any:
    """`tf.lookup.StaticVocabularyTable` from a file, in `map`"""
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            f"{folder}/words.txt",
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        num_oov_buckets=2,
    )
    words = data.from_tensor_slices([f"word{n % 7}" for n in range(24)])
    return words.shuffle(24).map(table.lookup).batch(4)


def mutable_table() -> Any:
    """`tf.lookup.experimental.MutableHashTable` that only is read in `map`"""
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)
    table.insert(tf.range(9, dtype=tf.int64), tf.range(9, dtype=tf.int64) * 2)
    return data.range(20).map(table.lookup).batch(4)


def dense_table() -> Any:
    """`tf.lookup.experimental.DenseHashTable` in `map`"""
    table = tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, -1, -1, -2)
    table.insert(tf.range(9, dtype=tf.int64), tf.range(9, dtype=tf.int64) * 2)
    return data.range(20).map(table.lookup).batch(4)


def mutable_table_written() -> Any:
    """`MutableHashTable` that `map` writes into"""
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)

    def count(n: Any) -> Any:
        seen = table.lookup(n % 3) + 1
        table.insert(n % 3, seen)
        return seen

    return data.range(20).map(count)


def string_lookup() -> Any:
    """Keras `StringLookup` and `Rescaling` in `map`"""
    lookup = keras.layers.StringLookup(vocabulary=["1", "2", "5"])
    rescale = keras.layers.Rescaling(0.5)

    def prepare(n: Any) -> Any:
        return lookup(tf.strings.as_string(n)), rescale(tf.cast(n, tf.float32)[tf.newaxis])

    return data.range(20).shuffle(20).map(prepare).batch(4)


def normalization() -> Any:
    """Keras `Normalization(mean=…)`, `Resizing`, `CenterCrop` in parallel `map`"""
    layers = [
        keras.layers.Normalization(mean=[3.0], variance=[2.0]),
        keras.layers.Resizing(3, 3),
        keras.layers.CenterCrop(2, 2),
    ]
    images = tf.reshape(tf.range(16 * 16, dtype=tf.float32), [16, 4, 4, 1])

    def prepare(image: Any) -> Any:
        for layer in layers:
            image = layer(image)
        return image

    return data.from_tensor_slices(images).shuffle(16).batch(2).map(prepare, num_parallel_calls=2)


def normalization_adapted() -> Any:
    """Keras `Normalization` after `adapt` in `map`"""
    layer = keras.layers.Normalization(axis=None)
    layer.adapt(np.arange(10.0))
    return data.range(20).shuffle(20).map(lambda n: layer(tf.cast(n, tf.float32))).batch(4)


def text_vectorization() -> Any:
    """Keras `TextVectorization(vocabulary=…)` in `map`"""
    layer = keras.layers.TextVectorization(output_sequence_length=3, vocabulary=["a", "b", "c"])
    texts = data.from_tensor_slices(["a b", "b c a", "c", "d a"] * 4)
    return texts.shuffle(16).batch(4).map(layer)


def text_vectorization_adapted() -> Any:
    """Keras `TextVectorization` after `adapt` in `map`"""
    layer = keras.layers.TextVectorization(output_sequence_length=3)
    layer.adapt(["a b", "b c a", "c"])
    texts = data.from_tensor_slices(["a b", "b c a", "c", "d a"] * 4)
    return texts.shuffle(16).batch(4).map(layer)


def hashing_and_encoding() -> Any:
    """Keras `Hashing`, `Discretization`, `CategoryEncoding` in `map`"""
    hashing = keras.layers.Hashing(5)
    bins = keras.layers.Discretization(bin_boundaries=[4.0, 9.0])
    encoding = keras.layers.CategoryEncoding(5, output_mode="one_hot")

    def prepare(n: Any) -> Any:
        return encoding(hashing(n)), bins(tf.cast(n, tf.float32))

    return data.range(20).shuffle(20).batch(4).map(prepare)


def keras_random_layer() -> Any:
    """Keras `RandomFlip` in `map`"""
    layer = keras.layers.RandomFlip("horizontal", seed=3)
    images = tf.reshape(tf.range(16 * 4, dtype=tf.float32), [16, 2, 2, 1])
    return data.from_tensor_slices(images).batch(4).map(lambda x: layer(x, training=True))
