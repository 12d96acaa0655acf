"""Each pipeline is either resumed exactly, by a known strategy, or refused with what to write."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from rtj_api.names import Reason
from rtj_trainer.data import IndexedContext, Tagged, indexed, indexed_context
from rtj_trainer.errors import PermanentError
from rtj_trainer.pipeline import PipelineFactory
from rtj_trainer.preflight import rules
from rtj_trainer.preflight.graph import PipelineGraph, read_graph
from rtj_trainer.preflight.identity import pipeline_sha256
from rtj_trainer.preflight.probe import probe
from rtj_trainer.preflight.strategy import Strategy, choose_strategy
from rtj_trainer.seeding import seed_everything
from rtj_trainer.validation import validation_data
from tensorflow.core.framework import graph_pb2

pytestmark = pytest.mark.unit

Build = Callable[[], Any]
data = tf.data.Dataset


def examine(build: Build, folder: Path, epochs: int | None = 3) -> Strategy:
    """Do what the trainer does before step 0."""
    seed_everything(1)
    context = IndexedContext(seed=1)
    with indexed_context(context):
        dataset = build()
    strategy = choose_strategy(dataset, read_graph(dataset), context, epochs)
    probe(dataset, strategy.name, folder / "probe")
    return strategy


def csv(tmp_path: Path, **options: Any) -> Any:
    path = tmp_path / "data.csv"
    path.write_text("a,b\n" + "".join(f"{n},{n * n}\n" for n in range(20)))
    return tf.data.experimental.make_csv_dataset(
        str(path), batch_size=4, num_epochs=1, header=True, **options
    )


def lines(tmp_path: Path) -> Any:
    path = tmp_path / "lines.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    text = tf.data.TextLineDataset(str(path)).skip(1)
    return text.map(lambda line: tf.io.decode_csv(line, [0, 0]))


def vocabulary() -> Any:
    lookup = keras.layers.StringLookup(vocabulary=["1", "2"])
    return data.range(9).map(lambda n: lookup(tf.strings.as_string(n)))


EXACT: list[Any] = [
    pytest.param(lambda p: data.range(9), "iterator", 9, id="range"),
    pytest.param(lambda p: data.range(9).shuffle(4).batch(2), "iterator", 5, id="shuffle"),
    pytest.param(lambda p: data.range(9).cache().shuffle(9), "iterator", 9, id="cache"),
    pytest.param(
        lambda p: data.range(9).filter(lambda n: n % 2 == 0), "iterator", None, id="filter"
    ),
    pytest.param(
        lambda p: data.range(9).interleave(lambda n: data.range(n), num_parallel_calls=2),
        "iterator",
        None,
        id="interleave",
    ),
    pytest.param(
        lambda p: (
            data.range(9).enumerate().map(lambda n, x: tf.random.stateless_uniform([], seed=[n, x]))
        ),
        "iterator",
        9,
        id="stateless-random",
    ),
    pytest.param(lambda p: vocabulary(), "iterator", 9, id="lookup"),
    pytest.param(lines, "iterator", None, id="text-lines"),
    pytest.param(csv, "replay", None, id="csv-with-header"),
    pytest.param(lambda p: data.range(9).map(random_map), "replay", 9, id="random"),
    pytest.param(lambda p: csv(p).cache().prefetch(1), "replay", None, id="article"),
    pytest.param(lambda p: indexed(9, 2).map(lambda i: i + 1).prefetch(1), "index", 5, id="index"),
    pytest.param(lambda p: indexed(9, 2, drop_remainder=True), "index", 4, id="index-even"),
]


@pytest.mark.parametrize(("build", "strategy", "batches"), EXACT)
def test_a_pipeline_that_can_be_resumed_is_accepted(
    build: Callable[[Path], Any], strategy: str, batches: int | None, tmp_path: Path
) -> None:
    found = examine(lambda: build(tmp_path), tmp_path)
    assert (found.name, found.batches_per_epoch) == (strategy, batches)
    assert not (tmp_path / "probe").exists()


def random_map(n: Any) -> Any:
    return tf.random.uniform([]) + tf.cast(n, tf.float32)


def sampled(n: Any) -> Any:
    true = tf.reshape(n, [1, 1])
    return tf.random.log_uniform_candidate_sampler(true, 1, 2, True, range_max=9)[0]


def variable_map() -> Any:
    variable = tf.Variable(1, dtype=tf.int64)
    return data.range(9).map(lambda n: n + variable)


def generator_map() -> Any:
    generator = tf.random.Generator.from_seed(1)
    return data.range(9).map(lambda n: generator.uniform([]))


def with_options(dataset: Any) -> Any:
    options = tf.data.Options()
    options.deterministic = False
    return dataset.with_options(options)


def dense_table() -> Any:
    table = tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, -1, -1, -2)
    table.insert(tf.range(9, dtype=tf.int64), tf.range(9, dtype=tf.int64) * 2)
    return table


def dense_table_within() -> Any:
    table = dense_table()
    return data.range(9).flat_map(lambda n: data.range(n).map(table.lookup))


REFUSED: list[Any] = [
    pytest.param(
        lambda: data.range(9).map(dense_table().lookup),
        ["DenseHashTable", "LookupTableFindV2", "use tf.lookup.StaticHashTable"],
        id="dense-table",
    ),
    pytest.param(dense_table_within, ["DenseHashTable"], id="dense-table-within-a-function"),
    pytest.param(
        lambda: data.range(9).map(lambda n: tf.numpy_function(lambda x: x, [n], tf.int64)),
        ["numpy_function", "PyFunc", "TensorFlow operations"],
        id="numpy-function",
    ),
    pytest.param(
        lambda: data.range(9).map(lambda n: tf.py_function(lambda x: x, [n], tf.int64)).shuffle(3),
        ["py_function", "EagerPyFunc"],
        id="py-function",
    ),
    pytest.param(
        lambda: data.from_generator(
            lambda: iter([1]), output_signature=tf.TensorSpec([], tf.int64)
        ),
        ["from_generator", "TFRecord"],
        id="generator",
    ),
    pytest.param(
        lambda: data.range(9).flat_map(lambda n: data.range(n).map(random_map)),
        ["RandomUniform", "tf.random.stateless_*"],
        id="random-inside-flat-map",
    ),
    pytest.param(
        lambda: data.range(9).map(lambda n: tf.map_fn(random_map, tf.fill([2], n), tf.float32)),
        ["elsewhere than directly in map or filter", "RandomUniform"],
        id="random-inside-a-loop",
    ),
    pytest.param(
        lambda: data.range(9).map(lambda n: (random_map(n), sampled(n))),
        ["beside tf.random.*", "LogUniformCandidateSampler", "use stateless operations"],
        id="random-beside-other-state",
    ),
    pytest.param(
        lambda: indexed(9, 2).map(lambda i: random_map(i[0])),
        ["after indexed()", "RandomUniform"],
        id="random-after-indexed",
    ),
    pytest.param(
        lambda: data.range(9).map(lambda n: (tf.timestamp(), n)),
        ["tf.timestamp", "another in each run"],
        id="timestamp",
    ),
    pytest.param(
        lambda: data.range(9).apply(tf.data.experimental.prefetch_to_device("/cpu:0")),
        ["prefetch_to_device", "use prefetch()"],
        id="device",
    ),
    pytest.param(
        lambda: data.range(9).interleave(lambda n: data.range(n).shuffle(3)),
        ["shuffle() or cache() within a function", "after interleave or flat_map"],
        id="shuffle-inside-interleave",
    ),
    pytest.param(generator_map, ["tf.random.Generator", "stateless"], id="random-generator"),
    pytest.param(variable_map, ["tf.Variable", "tf.constant"], id="variable"),
    pytest.param(
        lambda: data.range(9).cache("/tmp/somewhere"),
        ["cache('/tmp/somewhere')", "use cache() in memory"],
        id="cache-in-a-file",
    ),
    pytest.param(
        lambda: data.range(9).interleave(
            lambda n: data.range(n), num_parallel_calls=2, deterministic=False
        ),
        ["deterministic=False", "leave that out"],
        id="interleave-not-deterministic",
    ),
    pytest.param(
        lambda: with_options(data.range(9).map(lambda n: n, num_parallel_calls=2)),
        ["options have deterministic=False"],
        id="options-not-deterministic",
    ),
    pytest.param(lambda: data.range(9).snapshot("/tmp/somewhere"), ["snapshot()"], id="snapshot"),
    pytest.param(
        lambda: data.range(9).map(
            lambda n: tf.debugging.check_numerics(tf.cast(n, tf.float32), "bad")
        ),
        ["check_numerics", "tf.debugging.Assert"],
        id="check-numerics",
    ),
    pytest.param(
        lambda: indexed(9, 2).shuffle(3), ["only map and prefetch", "Shuffle"], id="index-shuffled"
    ),
    pytest.param(
        lambda: indexed(9, 2).enumerate(), ["only map and prefetch", "Zip"], id="index-enumerated"
    ),
    pytest.param(lambda: indexed(9, 2).take(3), ["only map and prefetch", "Take"], id="index-cut"),
    pytest.param(
        lambda: data.zip(indexed(9, 2), indexed(9, 2)),
        ["calls indexed() 2 times"],
        id="two-indices",
    ),
    pytest.param(
        lambda: indexed(9, 2).map(lambda ids: Tagged(ids[:, None], ids)),
        ["not of shape (None, 1)", "tf.reshape(ids, [-1])"],
        id="ids-of-two-dimensions",
    ),
    pytest.param(
        lambda: data.range(9).batch(2).map(lambda n: Tagged({"id": n}, n)),
        ["not dict"],
        id="ids-in-a-dict",
    ),
]


@pytest.mark.parametrize(("build", "words"), REFUSED)
def test_a_pipeline_that_cannot_be_resumed_is_refused_with_what_to_write(
    build: Build, words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(PermanentError) as caught:
        examine(build, tmp_path)
    assert caught.value.reason == Reason.PIPELINE_NOT_RESUMABLE
    for word in words:
        assert word in caught.value.message


def test_a_graph_that_tensorflow_does_not_show_is_refused() -> None:
    """Of one above 2 GB it gives nothing at all, without an error."""
    unseen = PipelineGraph(graph_pb2.GraphDef(), stateful=None)
    assert ["above the 2 GB" in found.what for found in rules.problems(unseen)] == [True]


def test_every_reason_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as caught:
        examine(lambda: variable_map().cache("/tmp/file"), tmp_path)
    assert "ReadVariableOp" in caught.value.message
    assert "cache(" in caught.value.message


@pytest.mark.parametrize(
    "build",
    [
        lambda: data.range(0),
        lambda: data.range(9).filter(lambda n: n > 100),
        lambda: data.range(9).batch(10, drop_remainder=True),
    ],
    ids=["range", "filter", "batch"],
)
def test_an_empty_dataset_is_refused(build: Build, tmp_path: Path) -> None:
    with pytest.raises(
        PermanentError, match=r"spec\.builder\.datasetFunction returned an empty"
    ) as caught:
        examine(build, tmp_path)
    assert caught.value.reason == Reason.BUILDER_INVALID


def test_an_endless_dataset_needs_total_steps(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"set spec\.totalSteps"):
        examine(lambda: data.range(9).repeat(), tmp_path)
    assert examine(lambda: data.range(9).repeat(), tmp_path, epochs=None).name == "iterator"


def of_before(base: Any) -> dict[str, Build]:
    """Return functions that make new datasets of one that was made outside of them."""
    return {
        "the same": lambda: base,
        "read on": lambda: base.batch(4),
        "beside a new one": lambda: data.range(4).concatenate(base).batch(4),
        "twice": lambda: data.zip(base, base).batch(4),
    }


MOVING: dict[str, Build] = {
    "shuffle": lambda: data.range(40).shuffle(40, seed=3),
    "cache": lambda: data.range(40).cache(),
    "random": lambda: data.random(seed=3, rerandomize_each_iteration=True).take(40),
}


@pytest.mark.parametrize("made_of_it", ["the same", "read on", "beside a new one", "twice"])
@pytest.mark.parametrize("state", MOVING)
def test_a_dataset_on_what_was_made_outside_of_the_function_is_refused(
    state: str, made_of_it: str, tmp_path: Path
) -> None:
    build = of_before(MOVING[state]())[made_of_it]
    with pytest.raises(PermanentError) as error:
        PipelineFactory(build, 7, 3, None).pipeline(True, tmp_path / "probe")
    assert error.value.reason is Reason.PIPELINE_NOT_RESUMABLE
    assert "within the function" in error.value.message


def test_a_dataset_on_what_has_no_state_may_be_made_outside_of_the_function(tmp_path: Path) -> None:
    files = data.range(40)
    keys = tf.range(40, dtype=tf.int64)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, keys * 2), -1)

    def build() -> Any:
        return files.map(table.lookup).cache().shuffle(40).batch(4)

    pipeline = PipelineFactory(build, 7, 3, None).pipeline(True, tmp_path / "probe")
    assert pipeline.strategy.name == "iterator"


def test_a_validation_on_a_shuffle_outside_of_its_function_is_refused() -> None:
    shuffled = data.range(40).shuffle(40, seed=3)
    with pytest.raises(PermanentError, match="within the function"):
        validation_data(lambda: shuffled.skip(32).batch(4), 7)
    kept = data.range(40).cache().batch(4)
    assert validation_data(lambda: kept, 7)


def test_training_and_validation_may_not_share_a_shuffle(tmp_path: Path) -> None:
    made = []

    def build() -> Any:
        made.append(data.range(40).shuffle(40, seed=3))
        return made[-1].take(32).batch(4)

    def rest() -> Any:
        return made[-1].skip(32).batch(4)

    pipeline = PipelineFactory(build, 7, 3, None).pipeline(True, tmp_path / "probe")
    with pytest.raises(PermanentError, match="of the training's dataset"):
        validation_data(rest, 7, held_by_training=pipeline.held)


def identity(build: Build) -> str:
    seed_everything(1)
    return pipeline_sha256(read_graph(build()).definition)


@pytest.mark.parametrize(
    "build",
    [
        lambda: data.range(9).cache().shuffle(4),
        lambda: data.range(9).map(lambda n: tf.cond(n > 3, lambda: n, lambda: n * 2)),
        lambda: data.range(9).interleave(lambda n: data.range(n).cache()),
        vocabulary,
        lambda: data.from_tensor_slices(np.random.default_rng(1).random(9)),
    ],
    ids=["cache", "condition", "interleave", "lookup", "constants"],
)
def test_equal_pipelines_have_the_same_digest(build: Build) -> None:
    first = identity(build)
    identity(lambda: data.range(1).map(lambda n: n + 5))  # moves TensorFlow's counters
    assert identity(build) == first


def base(factor: int = 2, size: int = 9, batch: int = 2, seed: int | None = None) -> Any:
    return data.range(size).shuffle(4, seed=seed).map(lambda n: n * factor).batch(batch)


@pytest.mark.parametrize(
    "build",
    [
        lambda: base(factor=3),
        lambda: base(size=10),
        lambda: base(batch=3),
        lambda: base(seed=5),
        lambda: base().prefetch(1),
        lambda: data.from_tensor_slices([time.monotonic_ns()]),
    ],
    ids=["map", "size", "batch", "seed", "structure", "constants"],
)
def test_a_changed_pipeline_has_another_digest(build: Build) -> None:
    assert identity(build) != identity(base)


@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("start", [0, 1, 4, 5, 9])
def test_indexed_begins_anywhere_with_the_same_order(start: int, drop_remainder: bool) -> None:
    def batches(first: int) -> list[list[int]]:
        with indexed_context(IndexedContext(seed=3, start=first, stop=10)):
            dataset = indexed(21, 5, drop_remainder=drop_remainder)
        return [batch.numpy().tolist() for batch in dataset]

    assert batches(start) == batches(0)[start:]


def test_indexed_has_each_index_once_per_epoch_in_another_order() -> None:
    with indexed_context(IndexedContext(seed=3, stop=10)):
        batches = [batch.numpy() for batch in indexed(21, 5)]
    first, second = np.concatenate(batches[:5]), np.concatenate(batches[5:])
    assert sorted(first) == sorted(second) == list(range(21))
    assert list(first) != list(second)


def test_indexed_works_outside_of_a_job_and_in_order() -> None:
    dataset = indexed(5, 2, shuffle=False)
    assert [batch.numpy().tolist() for batch in dataset] == [[0, 1], [2, 3], [4]]
    assert indexed(4, 2).element_spec.shape == [2]


@pytest.mark.parametrize(("size", "batch"), [(0, 1), (1, 0), (-3, 1)])
def test_indexed_refuses_sizes_below_one(size: int, batch: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        indexed(size, batch)


def test_more_examples_than_an_int32_counts_are_read(tmp_path: Path) -> None:
    factory = PipelineFactory(lambda: indexed(3_000_000_000, 1024), 0, 2, None)
    position = factory.pipeline(False, tmp_path).stream.position
    late_in_epoch = 3_000_000_000 // 1024
    for step in (0, late_in_epoch):
        position.start(step)
        assert position.next() is not None
