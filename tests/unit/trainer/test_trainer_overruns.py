"""What is read ahead of a cut does not decide what the next epoch begins with.

Each pipeline is read as fast as it gives batches, and with pauses in which whatever reads ahead
goes on as far as it can: two runs that nobody killed.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from rtj_api.names import Reason
from rtj_trainer.batches import sha256_of
from rtj_trainer.data import IndexedContext
from rtj_trainer.errors import PermanentError
from rtj_trainer.pipeline import PipelineFactory
from rtj_trainer.preflight.graph import read_graph
from rtj_trainer.preflight.lines import recorded_lines
from rtj_trainer.preflight.strategy import Strategy, choose_strategy
from rtj_trainer.seeding import seed_everything
from rtj_trainer.validation import validation_data

pytestmark = pytest.mark.unit

data = tf.data.Dataset
Build = Callable[[], Any]


def shuffled(count: int = 8) -> Any:
    return data.range(count).shuffle(count)


def slow(n: Any) -> Any:
    """Take long enough to be overtaken by who reads the result."""
    weights = tf.random.stateless_uniform([200, 200], seed=[1, 2])
    return n + tf.cast(tf.reduce_sum(weights) * 0, tf.int64)


def noisy(n: Any) -> Any:
    return tf.random.uniform([]) + tf.cast(n, tf.float32)


def chosen(*parts: Any) -> Any:
    return data.choose_from_datasets(list(parts), data.range(2).repeat(3))


def sampled(*parts: Any, stop: bool) -> Any:
    return data.sample_from_datasets(list(parts), seed=3, stop_on_empty_dataset=stop)


def used_twice(branch: Callable[[Any], Any]) -> Any:
    dataset = shuffled()
    return data.zip(branch(dataset), branch(dataset))


def taken_within(dataset: Any) -> Any:
    return data.range(3).flat_map(lambda n: dataset.take(3))


def read_by_calls(dataset: Any, **parallel: int) -> Any:
    """Read a dataset in calls that take unlike time before they begin with it."""
    return data.range(16).interleave(
        lambda n: (
            data.range(1 + n % 3 * 20).map(slow).batch(60).flat_map(lambda _: dataset.take(3))
        ),
        cycle_length=8,
        **parallel,
    )


def read_by_legacy_calls(dataset: Any) -> Any:
    read = tf.data.experimental.parallel_interleave(lambda _: dataset.take(3), 8, sloppy=False)
    return data.range(16).apply(read)


REFUSED: dict[str, tuple[Build, list[str]]] = {
    "prefetch, take": (
        lambda: shuffled().repeat().prefetch(8).take(3),
        ["take() may end", "a shuffle", "TakeDataset, PrefetchDataset, test_trainer_overruns.py:"],
    ),
    "parallel map, take": (
        lambda: shuffled().repeat().map(slow, num_parallel_calls=2).batch(2).take(3),
        ["ParallelMapDatasetV2", "use prefetch(), num_parallel_calls and the like after take()"],
    ),
    "parallel batch, take_while": (
        lambda: shuffled().repeat().batch(2, num_parallel_calls=2).take_while(lambda n: n[0] < 5),
        ["take_while()", "ParallelBatchDataset", "leave out repeat()"],
    ),
    "parallel interleave, take": (
        lambda: (
            shuffled()
            .repeat()
            .interleave(lambda n: data.range(n, n + 2), num_parallel_calls=2)
            .take(9)
        ),
        ["ParallelInterleaveDatasetV4"],
    ),
    "an order that is repeated in an epoch": (
        lambda: shuffled().take(3).repeat().prefetch(8).take(10),
        ["PrefetchDataset"],
    ),
    "a cache that may not be filled": (
        lambda: shuffled().cache().prefetch(8).take(3),
        ["PrefetchDataset"],
    ),
    "zip with fewer": (
        lambda: data.zip(data.range(6), shuffled().repeat().prefetch(8)),
        ["zip() may end"],
    ),
    "zip with a mixture that TensorFlow takes for endless": (
        lambda: data.zip(
            data.range(50).map(noisy).prefetch(8),
            sampled(data.range(4).repeat(), data.range(8), stop=True),
        ),
        ["zip() may end"],
    ),
    "random map, prefetch, take": (
        lambda: data.range(9).map(noisy).prefetch(8).take(3),
        ["tf.random.* has gone on", "stateless"],
    ),
    "parallel random map, zip with fewer": (
        lambda: data.zip(data.range(6), data.range(9).map(noisy, num_parallel_calls=2)),
        ["ParallelMapDatasetV2"],
    ),
    "a mixture that stops": (
        lambda: sampled(shuffled().repeat().prefetch(8), shuffled(), stop=True),
        ["the mixture (sample_from_datasets, rejection_resample, …) may end"],
    ),
    "a mixture by choices that end": (
        lambda: chosen(shuffled().repeat().prefetch(8), shuffled()),
        ["the mixture (sample_from_datasets, rejection_resample, …) may end"],
    ),
    "take within a function": (
        lambda: taken_within(shuffled().repeat().prefetch(8)),
        ["the function of FlatMapDataset"],
    ),
    "one shuffle in two inputs": (
        lambda: used_twice(lambda dataset: dataset.repeat(3).prefetch(8)),
        ["zip() has one shuffle in two inputs", "call shuffle() for each"],
    ),
    "one shuffle in parallel calls": (
        lambda: read_by_calls(shuffled(), num_parallel_calls=8),
        ["function of ParallelInterleaveDatasetV4 reads one shuffle", "call shuffle() on the data"],
    ),
    "one shuffle in parallel calls of another kind": (
        lambda: read_by_legacy_calls(shuffled()),
        ["function of LegacyParallelInterleaveDatasetV2 reads one shuffle"],
    ),
    "tf.random in parallel calls": (
        lambda: read_by_calls(data.range(9).map(noisy), num_parallel_calls=8),
        ["reads one dataset with tf.random.* in several calls", "stateless"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_reading_ahead_of_a_cut_is_refused(name: str, tmp_path: Path) -> None:
    build, words = REFUSED[name]
    with pytest.raises(PermanentError) as caught:
        PipelineFactory(build, 7, 3, None).pipeline(True, tmp_path / "probe")
    assert caught.value.reason == Reason.PIPELINE_NOT_RESUMABLE
    for word in words:
        assert word in caught.value.message


AS_WRITTEN: dict[str, Build] = {
    "map, take": lambda: shuffled(4).repeat().map(slow).take(4),
    "map, batch, map, take": lambda: shuffled().repeat().map(slow).batch(2).map(slow).take(4),
    "map, take, prefetch": lambda: shuffled().repeat().map(slow).batch(2).take(4).prefetch(4),
    "map, zip": lambda: data.zip(data.range(6), shuffled(4).repeat().map(slow).batch(2)),
    "random map, take": lambda: data.range(8).map(noisy).map(lambda n: n + 1).take(4),
    "mixture": lambda: sampled(shuffled(4).repeat(9).map(slow), shuffled(), stop=True),
    "one shuffle in two inputs": lambda: used_twice(lambda found: found.repeat(3).map(slow)),
    "one shuffle in calls one by one": lambda: read_by_calls(shuffled()),
}

AS_EVER: dict[str, Build] = {
    "shuffle, prefetch, take": lambda: shuffled().map(slow).prefetch(8).take(3),
    "as many as there are": lambda: shuffled().repeat(2).map(slow).prefetch(8).take(16),
    "the same order each time": lambda: (
        data.range(8).shuffle(8, reshuffle_each_iteration=False).repeat().prefetch(8).take(3)
    ),
    "zip with as many": lambda: data.zip(data.range(16), shuffled().repeat(2).prefetch(8)),
    "zip with more": lambda: data.zip(data.range(20), data.range(9).map(noisy).prefetch(8)),
    "enumerate": lambda: data.range(9).map(noisy).prefetch(8).filter(lambda n: n > 2).enumerate(),
    "a mixture to its end": lambda: sampled(shuffled().repeat(2).prefetch(8), stop=False),
    "cached what was taken": lambda: data.range(9).map(noisy).prefetch(8).take(3).cache(),
    "one shuffle in two inputs": lambda: used_twice(lambda dataset: dataset.prefetch(8)),
    "the same order in each of parallel calls": lambda: read_by_calls(
        data.range(8).shuffle(8, reshuffle_each_iteration=False), num_parallel_calls=8
    ),
    "a shuffle before parallel calls": lambda: shuffled().interleave(
        lambda n: data.range(n, n + 3).map(slow), num_parallel_calls=2
    ),
    "two shuffles": lambda: data.zip(shuffled().repeat(3).prefetch(8), shuffled().repeat(3)),
}


def choose(build: Build, epochs: int = 3) -> Strategy:
    seed_everything(7)
    with recorded_lines() as lines:
        dataset = build()
    return choose_strategy(dataset, read_graph(dataset, lines), IndexedContext(7), epochs)


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_tensorflow_adds_nothing_that_reads_ahead_of_a_cut(name: str) -> None:
    assert choose(AS_WRITTEN[name]).as_written


@pytest.mark.parametrize("name", AS_EVER)
def test_what_cuts_no_state_off_is_optimised_as_ever(name: str) -> None:
    assert not choose(AS_EVER[name]).as_written


def batches(build: Build, folder: Path, pause: float) -> list[str]:
    """Read some epochs, with a pause after the first batch of each."""
    position = PipelineFactory(build, 7, 12, None).pipeline(False, folder).stream.position
    position.start(0)
    found = []
    for _ in range(30):
        batch = position.next()
        assert batch
        found.append(sha256_of(batch.element))
        time.sleep(pause if batch.index == 0 else 0)
    return found


@pytest.mark.parametrize(
    "build",
    [*AS_WRITTEN.values(), *AS_EVER.values()],
    ids=[
        *(f"as written: {name}" for name in AS_WRITTEN),
        *(f"as ever: {name}" for name in AS_EVER),
    ],
)
def test_the_batches_do_not_depend_on_how_fast_they_are_read(build: Build, tmp_path: Path) -> None:
    assert batches(build, tmp_path, 0.1) == batches(build, tmp_path, 0)


def test_the_options_of_a_builder_do_not_read_ahead_of_a_cut_either(tmp_path: Path) -> None:
    def build() -> Any:
        options = tf.data.Options()
        options.experimental_optimization.map_parallelization = True
        options.experimental_optimization.inject_prefetch = True
        return AS_WRITTEN["map, batch, map, take"]().with_options(options)

    assert batches(build, tmp_path, 0.1) == batches(build, tmp_path, 0)


def test_a_single_epoch_may_end_as_it_likes() -> None:
    """So a dataset that is cached, which is read once, is not refused for it."""
    build, _ = REFUSED["prefetch, take"]
    assert choose(build, epochs=1).name == "iterator"
    with pytest.raises(PermanentError):
        choose(lambda: build().repeat(2), epochs=1)


def test_a_validation_that_is_built_for_each_epoch_may_end_as_it_likes() -> None:
    build, _ = REFUSED["random map, prefetch, take"]
    assert validation_data(build, 7)
    with pytest.raises(PermanentError, match=r"tf\.random\.\* has gone on"):
        validation_data(lambda: build().repeat(2), 7)


@pytest.mark.parametrize("stop", [False, True])
def test_of_a_mixture_no_length_is_taken_for_known(stop: bool) -> None:
    assert (
        choose(lambda: sampled(data.range(4), data.range(8), stop=stop)).batches_per_epoch is None
    )
