"""Where positions begin, what they give again, and what ids are said to be."""

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf
from rtj_trainer.cutting import Cutting
from rtj_trainer.data import Tagged
from rtj_trainer.data.indexing import IndexedSource
from rtj_trainer.position import Position
from rtj_trainer.position.iterator import IteratorPosition
from rtj_trainer.position.streams import IndexPosition, ReplayPosition

pytestmark = pytest.mark.unit


def epoch() -> Any:
    return tf.data.Dataset.range(10).batch(2)


def by_index(ids: Any = lambda n: n) -> IndexPosition:
    """Return a position in endless epochs of 5 batches, whose examples have these ids."""

    def build(step: int) -> Any:
        return epoch().map(lambda n: Tagged(ids(n), n)).repeat().skip(step)

    return IndexPosition(build, IndexedSource(Cutting.even(10, 2, False), shuffle=False), 0)


POSITIONS: dict[str, Callable[[], Position]] = {
    "index": by_index,
    "replay": lambda: ReplayPosition(epoch(), None),
    "iterator": lambda: IteratorPosition(epoch(), None, 0),
}


def taken(position: Position) -> tuple[int, list[int]]:
    batch = position.next()
    assert batch
    element = batch.element.data if isinstance(batch.element, Tagged) else batch.element
    return batch.index, element.numpy().tolist()


@pytest.mark.parametrize("name", POSITIONS)
def test_a_batch_that_is_given_back_is_given_again_once(name: str) -> None:
    position = POSITIONS[name]()
    position.start(0)
    for index in range(12):
        batch = position.next()
        assert batch
        position.unread(batch)
        start = 2 * (index % 5)
        assert taken(position) == (index % 5, [start, start + 1])


@pytest.mark.parametrize("name", ["index", "replay"])
def test_a_position_begins_at_its_step(name: str) -> None:
    position = POSITIONS[name]()
    position.start(8)
    assert position.replays is (name == "replay")
    assert taken(position) == (3, [6, 7])
    assert not position.replays


@pytest.mark.parametrize(
    ("ids", "are_places"),
    [
        (lambda n: n, True),
        (lambda n: n + 1, False),
        (lambda n: tf.where(n < 2, n + 1, n), False),
    ],
    ids=["places", "others", "others at first"],
)
def test_ids_are_places_only_if_each_that_was_compared_is_one(ids: Any, are_places: bool) -> None:
    position = by_index(ids)
    position.start(0)
    for _ in range(4):
        taken(position)
    assert position.epoch_size
    assert position.epoch_size.ids_are_places is are_places
