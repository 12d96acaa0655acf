"""Saved at any batch of a late epoch and restored, a pipeline goes on as if it never stopped.

Naive saves of these pipelines lose the place of a shuffle's generator at some of these batches, and
that shows only in the next epoch.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from rtj_trainer.batches import sha256_of
from rtj_trainer.data import IndexedContext
from rtj_trainer.position import Position
from rtj_trainer.position.iterator import IteratorPosition
from rtj_trainer.position.streams import ReplayPosition
from rtj_trainer.preflight.graph import read_graph
from rtj_trainer.preflight.reshuffling import places
from rtj_trainer.preflight.strategy import choose_strategy
from rtj_trainer.seeding import seed_everything

pytestmark = pytest.mark.unit

data = tf.data.Dataset
EPOCH_OF_SAVES, EPOCHS = 3, 7


def not_ahead(dataset: Any) -> Any:
    """Keep tf.data from reading ahead by itself, so that where it stands is no matter of time."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def files(shuffle: int) -> Any:
    return data.range(shuffle).shuffle(shuffle)


def lengths(dataset: Any) -> Any:
    return dataset.map(lambda n: tf.fill([1 + n % 5], n))


def mixed(*datasets: Any, rerandomize: bool) -> Any:
    return data.sample_from_datasets(
        datasets, [0.5, 0.5], seed=3, rerandomize_each_iteration=rerandomize
    )


def used_twice() -> Any:
    shuffled = data.range(9).shuffle(9)
    return data.zip(shuffled, shuffled.skip(1)).batch(4)


PIPELINES: dict[str, tuple[Callable[[], Any], str]] = {
    "shuffle": (lambda: data.range(30).shuffle(30).batch(8), "iterator"),
    "shuffle, not read ahead": (
        lambda: not_ahead(data.range(30).shuffle(30).batch(8)),
        "iterator",
    ),
    "shuffle with a seed": (lambda: not_ahead(data.range(30).shuffle(30, seed=5)), "iterator"),
    "shuffle, the same each time": (
        lambda: data.range(30).shuffle(30, reshuffle_each_iteration=False).batch(8),
        "iterator",
    ),
    "shuffle, read far ahead": (
        lambda: data.range(80).shuffle(30).batch(8).prefetch(4),
        "iterator",
    ),
    "cache, then shuffle": (lambda: data.range(30).cache().shuffle(30).batch(8), "iterator"),
    "shuffle, then cache": (lambda: data.range(30).shuffle(30).cache().batch(8), "replay"),
    "shuffled twice": (lambda: data.range(30).shuffle(30).shuffle(30).batch(4), "iterator"),
    "shuffled twice, a little": (
        lambda: not_ahead(data.range(60).shuffle(9).shuffle(9).batch(8)),
        "iterator",
    ),
    "shuffled in another order, then the same": (
        lambda: data.range(30).shuffle(30).shuffle(8, reshuffle_each_iteration=False).batch(4),
        "iterator",
    ),
    "beside random numbers": (
        lambda: data.zip(data.random(seed=3), not_ahead(data.range(30).shuffle(30).batch(8))),
        "iterator",
    ),
    "shuffle and filter": (
        lambda: data.range(50).shuffle(50).filter(lambda n: n % 3 == 0).batch(8),
        "iterator",
    ),
    "parallel map": (
        lambda: data.range(30).shuffle(30).map(lambda n: -n, num_parallel_calls=4).batch(8),
        "iterator",
    ),
    "shuffled files, interleaved": (
        lambda: files(6).interleave(lambda f: data.range(f, f + 9), num_parallel_calls=2).batch(8),
        "iterator",
    ),
    "take": (lambda: data.range(50).shuffle(50).take(20).batch(8), "iterator"),
    "window": (
        lambda: (
            data.range(50)
            .shuffle(50)
            .window(10, drop_remainder=True)
            .flat_map(lambda window: window.batch(10))
        ),
        "iterator",
    ),
    "buckets": (
        lambda: lengths(files(30)).bucket_by_sequence_length(tf.size, [2, 4], [4, 4, 4]),
        "iterator",
    ),
    "ragged": (lambda: not_ahead(lengths(files(30)).ragged_batch(8)), "iterator"),
    "without labels": (lambda: files(30).batch(8).map(lambda n: (n, None)), "iterator"),
    "zip": (lambda: data.zip(files(25), {"b": files(40)}).batch(8), "iterator"),
    "one shuffle used twice": (used_twice, "iterator"),
    "repeated within an epoch": (lambda: files(20).repeat(2).batch(8), "iterator"),
    "concatenate": (lambda: files(25).concatenate(files(25)).batch(8), "replay"),
    "mixed": (lambda: mixed(data.range(9), data.range(9, 18), rerandomize=False), "replay"),
    "mixed anew": (lambda: mixed(data.range(9), data.range(9, 18), rerandomize=True), "replay"),
    "mixed shuffles": (lambda: mixed(files(9), files(9), rerandomize=False), "replay"),
}


def start(build: Callable[[], Any], step: int) -> Position:
    """Do what a new process does."""
    seed_everything(7)
    dataset = build()
    graph = read_graph(dataset)
    strategy = choose_strategy(dataset, graph, IndexedContext(7), None)
    position: Position = (
        IteratorPosition(dataset, None, places(graph))
        if strategy.name == "iterator"
        else ReplayPosition(dataset, None)
    )
    position.start(step)
    return position


def batches(position: Position) -> Iterator[tuple[int, str]]:
    while batch := position.next():
        yield batch.index, sha256_of(batch.element)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_position_can_be_saved_at_any_batch(name: str, tmp_path: Path) -> None:
    build, strategy = PIPELINES[name]
    expected: list[tuple[int, str]] = []
    starts: list[int] = []
    for batch in batches(start(build, 0)):
        if batch[0] == 0:
            starts.append(len(expected))
        if len(starts) > EPOCHS:
            break
        expected.append(batch)
    for step in _steps(starts[EPOCH_OF_SAVES], starts[EPOCH_OF_SAVES + 1], strategy):
        folder = tmp_path / str(step)
        folder.mkdir()
        before = start(build, 0)
        assert before.strategy == strategy
        stream = batches(before)
        assert [next(stream) for _ in range(step)] == expected[:step]
        before.save(folder)
        after = start(build, step)
        after.restore(folder)
        for going_on in (batches(after), stream):
            rest = [batch for batch, _ in zip(going_on, expected[step:], strict=False)]
            assert rest == expected[step:], f"saved at batch {step - starts[EPOCH_OF_SAVES]}"


def _steps(start: int, end: int, strategy: str) -> Iterable[int]:
    """Return where to save in an epoch; what is read again saves nothing, so a few will do."""
    if strategy == "replay":
        return sorted({start, start + 1, (start + end) // 2, end - 1, end})
    return range(start, end + 1)


def files_in_a_large_buffer() -> Any:
    """The files' shuffle is gone from the first batch of an epoch to the last but a few."""
    of_a_file = files(4).interleave(lambda f: data.range(500 * f, 500 * (f + 1)), cycle_length=4)
    return not_ahead(of_a_file.shuffle(2000).batch(2))


def test_no_commit_reads_most_of_an_epoch_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []
    write = tf.train.Checkpoint.write

    def counted(checkpoint: Any, path: str) -> Any:
        writes.append(path)
        return write(checkpoint, path)

    monkeypatch.setattr(tf.train.Checkpoint, "write", counted)
    stream = batches(start(files_in_a_large_buffer, 0))
    expected = [next(stream) for _ in range(1500)]
    before = start(files_in_a_large_buffer, 0)
    stream = batches(before)
    taken = [next(stream) for _ in range(10)]
    for step in (10, 20):
        (tmp_path / str(step)).mkdir()
        before.save(tmp_path / str(step))
        taken += [next(stream) for _ in range(10)]
    assert len(writes) <= 12, "it is tried ever more seldom, and then once for each commit"
    assert not any((tmp_path / "10").iterdir()), "nothing is saved that would be restored wrongly"
    after = start(files_in_a_large_buffer, 10)
    after.restore(tmp_path / "10")
    assert after.replays
    stream = batches(after)
    assert [next(stream) for _ in range(1490)] == expected[10:]
    assert taken == expected[:30]


def test_a_position_that_was_not_saved_does_not_keep_a_later_one_from_being_saved(
    tmp_path: Path,
) -> None:
    build, _ = PIPELINES["shuffle, not read ahead"]
    stream = batches(start(build, 0))
    expected = [next(stream) for _ in range(30)]
    (tmp_path / "empty").mkdir()
    replayed = start(build, 9)
    replayed.restore(tmp_path / "empty")
    replayed.save(tmp_path / "empty")
    assert not any((tmp_path / "empty").iterdir()), "it is not there yet"
    stream = batches(replayed)
    assert [next(stream) for _ in range(4)] == expected[9:13]
    (tmp_path / "saved").mkdir()
    replayed.save(tmp_path / "saved")
    after = start(build, 13)
    after.restore(tmp_path / "saved")
    assert not after.replays
    stream = batches(after)
    assert [next(stream) for _ in range(17)] == expected[13:]


def test_all_that_is_left_of_the_last_epoch_may_be_read_ahead(tmp_path: Path) -> None:
    def build() -> Any:
        return not_ahead(files(30).shuffle(30).batch(4))

    def begun(step: int) -> IteratorPosition:
        seed_everything(7)
        dataset = build()
        position = IteratorPosition(dataset, 2, places(read_graph(dataset)))
        position.start(step)
        return position

    expected = list(batches(begun(0)))
    for step in range(1, len(expected) + 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        before = begun(0)
        stream = batches(before)
        assert [next(stream) for _ in range(step)] == expected[:step]
        before.save(folder)
        after = begun(step)
        after.restore(folder)
        if first := after.next():
            after.unread(first)  # Before what is read ahead.
        assert list(batches(after)) == expected[step:] == list(stream)
