"""What get_state returns comes back from a commit as it was, or is refused when it is saved."""

import json
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from rtj_trainer.plain import Arrays, decode, encode

pytestmark = pytest.mark.unit

KEPT: list[Any] = [
    np.array([1.5, 2.5], np.float32),
    np.array([1, 2], ">i4"),
    np.array(["cat", "horse"]),
    np.array([b"cat", b"dog"]),
    np.array(["2026-01-01"], "datetime64[ns]"),
    np.array([1.5], ml_dtypes.bfloat16),
    np.zeros((0, 3), bool),
    np.str_("cat"),
]


class HasAnArray:
    """Stands for a DataFrame, a tensor of another library, and the like."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.zeros(2)


@pytest.mark.parametrize("value", KEPT, ids=lambda value: value.dtype.name)
def test_an_array_comes_back_with_its_type(value: Any) -> None:
    arrays: Arrays = {}
    found = decode(json.loads(json.dumps(encode(value, arrays, "it"))), arrays)
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    assert found.shape == value.shape
    assert found.tolist() == value.tolist()


@pytest.mark.parametrize(
    "dtype", [object, [("a", "i4"), ("b", "f8")], np.dtypes.StringDType()], ids=str
)
def test_an_array_that_could_not_be_read_back_is_refused(dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"it\['x'\] is an array of .* make it arrays of numbers"):
        encode({"x": np.zeros(2, dtype)}, {}, "it")


@pytest.mark.parametrize(
    "value",
    [
        Counter("aab"),
        defaultdict(list),
        OrderedDict(a=1),
        np.ma.masked_equal([1, 2], 2),
        np.rec.array([1, 2]),
        HasAnArray(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_back_as_another_type_is_refused(value: Any) -> None:
    words = rf"it\['x'\] is of type {type(value).__name__}; it must be None"
    with pytest.raises(TypeError, match=words):
        encode({"x": value}, {}, "it")


@pytest.mark.parametrize("make", [tf.constant, tf.Variable, keras.Variable])
def test_a_tensor_comes_back_as_an_array(make: Any) -> None:
    arrays: Arrays = {}
    found = decode(encode(make([1.5, 2.5]), arrays, "it"), arrays)
    assert type(found) is np.ndarray
    assert (found.dtype, found.tolist()) == (np.float32, [1.5, 2.5])


def test_a_single_bfloat16_of_tensorflow_comes_back() -> None:
    arrays: Arrays = {}
    found = decode(encode(tf.constant(1.5, tf.bfloat16), arrays, "it"), arrays)
    assert (found.dtype, found.tolist()) == (ml_dtypes.bfloat16, 1.5)


def test_the_types_of_older_commits_are_written_as_they_were() -> None:
    """Else the hash of the state that they restore would be another."""
    old = {"array": {"number": "0", "dtype": "float32", "shape": [1]}, "scalar": False}
    assert encode(np.array([2.0], np.float32), {}, "it") == old
    assert decode(old, {"0": np.frombuffer(np.array([2.0], np.float32).tobytes(), np.uint8)}) == [
        2.0
    ]
