"""Which ways to go through the batches of a session count a step before it is taken."""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from rtj_trainer.errors import PermanentError
from rtj_trainer.own_loop.given import Steps

pytestmark = pytest.mark.unit

Way = Callable[[Iterable[Any]], Iterable[Any]]


def passed_on(batches: Iterable[Any]) -> Iterator[Any]:
    yield from (batch for batch in batches)


def train(way: Way) -> list[Any]:
    """Return what a loop trains on."""
    trained: list[Any] = []

    def step(batch: Any) -> None:
        trained.append(batch)

    for batch in way(Steps(iter("abcd"))):
        step(batch)
    return trained


@pytest.mark.parametrize(
    "way",
    [
        itertools.pairwise,
        lambda batches: itertools.pairwise(passed_on(batches)),
        lambda batches: zip(batches, batches, strict=False),
        lambda batches: itertools.islice(batches, 1, None),
        list,
    ],
    ids=["pairwise", "pairwise of a generator", "zip", "islice", "list"],
)
def test_a_second_batch_before_the_first_step_is_refused(way: Way) -> None:
    with pytest.raises(PermanentError, match="its second batch before anything was done with"):
        train(way)


def test_a_batch_that_is_asked_for_beside_the_loop_is_refused_before_the_first_step() -> None:
    steps = Steps(iter("abcd"))
    with pytest.raises(PermanentError, match="its second batch before anything was done with"):
        next(steps), next(steps)


@pytest.mark.parametrize(
    ("way", "last"),
    [
        (iter, "d"),
        (enumerate, (3, "d")),
        (passed_on, "d"),
        (lambda batches: zip(range(9), batches, strict=False), (3, "d")),
        (lambda batches: map(str.upper, passed_on(batches)), "D"),
    ],
    ids=["loop", "enumerate", "generator", "zip with something else", "map"],
)
def test_one_batch_after_the_other_is_given_and_the_profiler_is_free_again(
    way: Way, last: Any
) -> None:
    trained = train(way)
    assert (len(trained), trained[-1]) == (4, last)
    assert sys.getprofile() is None
