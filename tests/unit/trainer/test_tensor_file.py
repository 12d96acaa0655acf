"""The file of a state: every type, read by others too, and damage that is noticed."""

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from rtj_trainer import tensor_file
from safetensors import safe_open

pytestmark = pytest.mark.unit

TYPES = [
    *(tf.bool, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
    *(tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64),
    *(tf.dtypes.experimental.float8_e4m3fn, tf.dtypes.experimental.float8_e5m2),
]


def tensors() -> dict[str, tf.Tensor]:
    """Return a tensor of each type, and of each odd shape."""
    bits = tf.constant(np.arange(48, dtype=np.uint8))
    of_types = {
        found.name: tf.constant(np.arange(6).reshape(2, 3).astype(found.as_numpy_dtype))
        for found in TYPES
    }
    larger = tf.random.stateless_normal([3, 3 << 20], [1, 2])  # flushed in between
    odd = {"scalar": tf.constant(7.0), "empty": tf.zeros([0, 4]), "larger": larger, "odd": bits[1:]}
    return {**of_types, **odd, "nan": tf.constant([np.nan, -0.0, np.inf])}


def test_what_is_written_is_read_bit_by_bit_in_the_same_order(tmp_path: Path) -> None:
    written = tensors()
    tensor_file.write(tmp_path / "t", written)
    found = list(tensor_file.read(tmp_path / "t"))
    assert [name for name, _ in found] == list(written)
    for name, array in found:
        expected = written[name].numpy()
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape), name
        assert array.tobytes() == expected.tobytes(), name


def test_the_digest_is_that_of_the_file_whether_it_is_written_or_not(tmp_path: Path) -> None:
    digest = tensor_file.write(tmp_path / "t", tensors())
    assert digest == hashlib.sha256((tmp_path / "t").read_bytes()).hexdigest()
    assert digest == tensor_file.sha256(tensors())


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.float32([1, 2]), "b": np.float32([3, 5])},
        {"a": np.float32([[1, 2]]), "b": np.float32([3, 4])},
        {"a": np.float32([1, 2]), "c": np.float32([3, 4])},
        {"a": np.float32([1, 2]).view(np.int32), "b": np.float32([3, 4])},
        {"b": np.float32([3, 4]), "a": np.float32([1, 2])},
    ],
    ids=["a value", "a shape", "a name", "a type", "the order"],
)
def test_the_digest_tells_of_every_difference(other: dict[str, np.ndarray]) -> None:
    mine = {"a": np.float32([1, 2]), "b": np.float32([3, 4])}
    assert tensor_file.sha256(other) != tensor_file.sha256(mine)


def test_the_library_of_the_format_reads_it(tmp_path: Path) -> None:
    written = tensors()
    tensor_file.write(tmp_path / "t", written)
    with safe_open(str(tmp_path / "t"), "numpy") as file:
        assert set(file.keys()) == set(written)
        for name in ("float32", "int64", "bool", "larger", "scalar", "empty", "uint32"):
            expected = written[name].numpy()
            found = file.get_tensor(name)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.tobytes() == expected.tobytes()


def test_tensors_begin_where_the_format_wants_them(tmp_path: Path) -> None:
    for name in ("a", "ab", "a longer name"):
        tensor_file.write(tmp_path / "t", {name: np.float64([1.5])})
        assert ((tmp_path / "t").stat().st_size - 8) % 8 == 0, "not aligned for a map into memory"


def test_a_file_that_is_cut_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "t"
    tensor_file.write(path, {"a": np.arange(10)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="t ends within the tensor 'a'"):
        list(tensor_file.read(path))


def test_a_type_that_the_format_does_not_have_is_known_before() -> None:
    assert tensor_file.can_hold(np.dtype(ml_dtypes.bfloat16).name)
    assert not tensor_file.can_hold(tf.string.name)
    assert not tensor_file.can_hold(tf.complex128.name)
