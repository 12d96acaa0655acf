"""Pipelines that differ in where their examples come from."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

data = tf.data.Dataset
experimental = tf.data.experimental


def from_tensor_slices() -> Any:
    """`from_tensor_slices` of NumPy arrays, `shuffle`, `batch`"""
    arrays = {"x": np.arange(60.0).reshape(20, 3), "y": np.arange(20)}
    return data.from_tensor_slices(arrays).shuffle(20).batch(4)


def from_tensors() -> Any:
    """`from_tensors`, repeated within the epoch"""
    return data.from_tensors(tf.constant([1, 2])).repeat(6).enumerate()


def dataset_range() -> Any:
    """`range`, `batch`, `prefetch`"""
    return data.range(30).batch(4).prefetch(tf.data.AUTOTUNE)


def random_numbers() -> Any:
    """`Dataset.random(seed=…)`"""
    return data.random(seed=3).take(12).batch(2)


def random_numbers_each_epoch() -> Any:
    """`Dataset.random(rerandomize_each_iteration=True)`"""
    return data.random(seed=3, rerandomize_each_iteration=True).take(12).batch(2)


def random_numbers_without_seed() -> Any:
    """`Dataset.random()` without a seed"""
    return data.random().take(12).batch(2)


def counter() -> Any:
    """`Dataset.counter`, which never ends, with `take`"""
    return data.counter(start=5, step=3).take(14).batch(3)


def from_generator() -> Any:
    """`from_generator`"""

    def numbers() -> Any:
        yield from range(20)

    return data.from_generator(numbers, output_signature=tf.TensorSpec([], tf.int64)).batch(4)


def list_files(folder: str) -> Any:
    """`list_files`, shuffled, and `TextLineDataset` of each by `interleave`"""
    files = data.list_files(f"{folder}/lines-*.txt")
    return files.interleave(tf.data.TextLineDataset, cycle_length=2).batch(5)


def list_files_sorted(folder: str) -> Any:
    """`list_files(shuffle=False)`, `flat_map`, `shuffle`"""
    files = data.list_files(f"{folder}/lines-*.txt", shuffle=False)
    return files.flat_map(tf.data.TextLineDataset).shuffle(30).batch(5)


def text_lines(folder: str) -> Any:
    """`TextLineDataset`, `skip(1)`, `decode_csv`"""
    lines = tf.data.TextLineDataset(f"{folder}/table.csv").skip(1)
    return lines.map(lambda line: tf.io.decode_csv(line, [0, 0.0, ""])).shuffle(30).batch(5)


def text_lines_gzip(folder: str) -> Any:
    """`TextLineDataset` of a GZIP file"""
    return tf.data.TextLineDataset(f"{folder}/lines.txt.gz", compression_type="GZIP").batch(5)


def csv_with_header(folder: str) -> Any:
    """`make_csv_dataset` with a header, shuffled"""
    return experimental.make_csv_dataset(
        f"{folder}/table.csv", batch_size=5, label_name="b", num_epochs=1, shuffle_seed=3
    )


def csv_with_header_article(folder: str) -> Any:
    """`make_csv_dataset` with a header, `cache`, `prefetch`"""
    table = experimental.make_csv_dataset(
        f"{folder}/table.csv", batch_size=5, num_epochs=1, shuffle=False
    )
    return table.cache().prefetch(1)


def csv_without_header(folder: str) -> Any:
    """`CsvDataset(header=False)`, `shuffle`"""
    path = f"{folder}/bare.csv"
    return experimental.CsvDataset(path, [tf.int32, tf.float32, tf.string]).shuffle(30).batch(5)


def csv_low_level_header(folder: str) -> Any:
    """`CsvDataset(header=True)`"""
    path = f"{folder}/table.csv"
    kinds = [tf.int32, tf.float32, tf.string]
    return experimental.CsvDataset(path, kinds, header=True).batch(5)


def csv_without_header_gzip(folder: str) -> Any:
    """`CsvDataset` of a GZIP file, without a header"""
    kinds = [tf.int32, tf.float32, tf.string]
    path = f"{folder}/bare.csv.gz"
    return experimental.CsvDataset(path, kinds, compression_type="GZIP").batch(5)


def tfrecord(folder: str) -> Any:
    """`TFRecordDataset`, `parse_example`, `shuffle`"""
    features = {"x": tf.io.FixedLenFeature([2], tf.float32)}
    records = tf.data.TFRecordDataset(f"{folder}/records-0")
    return records.shuffle(20).batch(4).map(lambda raw: tf.io.parse_example(raw, features))


def tfrecord_gzip(folder: str) -> Any:
    """`TFRecordDataset` of GZIP files, `num_parallel_reads`"""
    files = [f"{folder}/records-{number}.gz" for number in range(2)]
    return tf.data.TFRecordDataset(files, compression_type="GZIP", num_parallel_reads=2).batch(4)


def batched_features(folder: str) -> Any:
    """`make_batched_features_dataset`"""
    return experimental.make_batched_features_dataset(
        f"{folder}/records-?",
        4,
        {"x": tf.io.FixedLenFeature([2], tf.float32)},
        num_epochs=1,
        shuffle_seed=3,
    )


def fixed_length_records(folder: str) -> Any:
    """`FixedLengthRecordDataset`, `decode_raw`, `shuffle`"""
    records = tf.data.FixedLengthRecordDataset(f"{folder}/fixed.bin", 4, header_bytes=2)
    return records.map(lambda raw: tf.io.decode_raw(raw, tf.uint8)).shuffle(30).batch(5)


def saved_dataset(folder: str) -> Any:
    """`Dataset.load` of what `save` wrote before the job"""
    return data.load(f"{folder}/saved").shuffle(20).batch(4)


def load_in_part(folder: str) -> Any:
    """`Dataset.load` with a `reader_func` that leaves examples out"""

    def reader(shards: Any) -> Any:
        return shards.flat_map(lambda shard: shard.take(11))

    return data.load(f"{folder}/saved", reader_func=reader).batch(4)


def sql(folder: str) -> Any:
    """`SqlDataset` of SQLite"""
    query = "SELECT a, b FROM numbers ORDER BY a"
    return experimental.SqlDataset("sqlite", f"{folder}/numbers.db", query, (tf.int32, tf.int32))


def image_folder(folder: str) -> Any:
    """Keras `image_dataset_from_directory`"""
    import keras

    return keras.utils.image_dataset_from_directory(
        f"{folder}/images", image_size=(4, 4), batch_size=3, verbose=False
    )


def text_folder(folder: str) -> Any:
    """Keras `text_dataset_from_directory`"""
    import keras

    return keras.utils.text_dataset_from_directory(f"{folder}/texts", batch_size=3, verbose=False)


def timeseries() -> Any:
    """Keras `timeseries_dataset_from_array`, shuffled"""
    import keras

    numbers = np.arange(30.0)
    return keras.utils.timeseries_dataset_from_array(
        numbers, numbers, sequence_length=5, batch_size=4, shuffle=True
    )


def data_service() -> Any:
    """The tf.data service"""
    dispatcher = tf.data.experimental.service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    worker = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(dispatcher_address=address)
    )
    dataset = data.range(20).apply(
        tf.data.experimental.service.distribute("parallel_epochs", dispatcher.target)
    )
    dataset.servers = dispatcher, worker
    return dataset.batch(4)


def sharded_files(folder: str) -> Any:
    """`shard` of files, then records"""
    files = data.from_tensor_slices([str(path) for path in sorted(Path(folder).glob("lines-*"))])
    return files.shard(2, 0).interleave(tf.data.TextLineDataset).shuffle(30).batch(5)


def sharded_examples() -> Any:
    """`shuffle(seed=…)`, `shard`"""
    return data.range(40).shuffle(40, seed=3).shard(2, 1).batch(4)
