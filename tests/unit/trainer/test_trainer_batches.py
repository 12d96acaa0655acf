"""The ledger's digest of a batch: equal exactly where the batches are."""

import pytest
import tensorflow as tf
from rtj_trainer.batches import sha256_of

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
