"""What get_state returns comes back from a commit as it was, or is refused when it is saved."""

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
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


def test_the_types_of_older_commits_are_written_as_they_were() -> None:
    """Else the hash of the state that they restore would be another."""
    old = {"array": {"number": "0", "dtype": "float32", "shape": [1]}, "scalar": False}
    assert encode(np.array([2.0], np.float32), {}, "it") == old
    assert decode(old, {"0": np.frombuffer(np.array([2.0], np.float32).tobytes(), np.uint8)}) == [
        2.0
    ]
