"""What the ledger and the manifest say of a batch: its digest and how many examples it has."""

from typing import Any

import pytest
import tensorflow as tf
from rtj_trainer.batches import count_examples, ids_of, sha256_of
from rtj_trainer.data import Tagged
from rtj_trainer.errors import PermanentError

pytestmark = pytest.mark.unit

DIFFERENT = [
    tf.constant(b"a"),
    tf.constant(b"a\0"),
    tf.constant([b"a"]),
    tf.constant([b"a\0"]),
    tf.constant([b"a", b"b"]),
    tf.constant([b"ab", b""]),
    tf.constant([[b"a", b"b"]]),
    tf.constant(1),
    tf.constant(1, tf.int64),
    tf.constant([1]),
    tf.ragged.constant([[1], [2, 3]]),
    tf.ragged.constant([[1, 2], [3]]),
]


def test_no_two_different_batches_have_the_same_digest() -> None:
    assert len({sha256_of(element) for element in DIFFERENT}) == len(DIFFERENT)


def test_the_same_batch_has_the_same_digest() -> None:
    assert sha256_of({"x": tf.constant(b"a\0")}) == sha256_of({"x": tf.constant(b"a\0")})


RAGGED = [[1], [2, 3], [], [4, 5, 6]]


@pytest.mark.parametrize(
    "element",
    [
        tf.zeros([4, 2]),
        {"x": tf.ragged.constant(RAGGED), "y": tf.zeros([4])},
        (tf.sparse.from_dense([[0, 1, 2], [0, 0, 0], [3, 4, 5], [0, 0, 0]]), tf.zeros([4])),
        Tagged(tf.range(4), tf.ragged.constant(RAGGED)),
    ],
    ids=["dense", "ragged", "sparse", "tagged"],
)
def test_each_row_of_a_batch_is_one_example(element: Any) -> None:
    [batch] = tf.data.Dataset.from_tensors(element)
    assert count_examples(batch) == 4


def test_an_element_without_dimensions_is_one_example() -> None:
    assert count_examples((tf.constant(3.0), tf.zeros([4]))) == 1


def test_ragged_batches_that_differ_in_length_are_counted_each() -> None:
    dataset = tf.data.Dataset.from_tensor_slices(tf.ragged.constant(RAGGED)).ragged_batch(3)
    assert [count_examples(batch) for batch in dataset] == [3, 1]
    sparse = tf.data.Dataset.range(5).map(lambda n: tf.sparse.from_dense([n, 0])).batch(2)
    assert [count_examples(batch) for batch in sparse] == [2, 2, 1]


def test_a_batch_without_labels_is_its_tensors() -> None:
    [batch] = tf.data.Dataset.from_tensors(tf.zeros([4, 2])).map(lambda x: (None, x, None))
    assert count_examples(batch) == 4
    assert sha256_of(batch) == sha256_of(tf.zeros([4, 2]))


def test_ids_whose_dimensions_only_the_batch_tells_are_refused_too() -> None:
    assert ids_of(Tagged(tf.constant([1, 2]), None)) == (1, 2)
    assert ids_of(Tagged(tf.constant(b"one"), None)) == ("one",)
    with pytest.raises(PermanentError, match=r"not of shape \(2, 1\)"):
        ids_of(Tagged(tf.constant([[1], [2]]), None))
