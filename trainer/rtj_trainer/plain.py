"""Plain values as JSON and arrays, and back: what callbacks keep, without pickle.

JSON holds None, bool, int, float, str and lists as they are. Everything else is an object with one
key that says what it is; an array's bytes are apart, under a number. So whatever is read back has
the type that was written, and reading it never runs code.
"""

import contextlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Arrays = dict[str, Any]
"""Bytes of each array, as an array of uint8, by number."""

_SCALAR_OR_TENSOR = (np.generic, tf.Tensor, tf.Variable, keras.Variable)


def encode(value: Any, arrays: Arrays, where: str) -> Any:
    """Return a value as JSON.

    Args:
        value: None, bool, int, float, str, an array, a tensor, or a list, tuple or dict of such.
        arrays: Gets the bytes of each array.
        where: Name of the value, for the message.

    Raises:
        TypeError: names what is something else.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [encode(item, arrays, f"{where}[{n}]") for n, item in enumerate(value)]
    if type(value) is tuple:
        return {"tuple": encode(list(value), arrays, where)}
    if type(value) is dict:
        return {
            "dict": [
                [encode(key, arrays, where), encode(item, arrays, f"{where}[{key!r}]")]
                for key, item in value.items()
            ]
        }
    if type(value) is np.ndarray or isinstance(value, _SCALAR_OR_TENSOR):
        return {
            "array": _encode_array(as_array(value), arrays, where),
            "scalar": isinstance(value, np.generic),
        }
    raise TypeError(
        f"{where} is of type {type(value).__name__}; it must be None, a bool, a number, a text, an "
        "array, or a list, tuple or dict of such; a type of its own, made of one of these, would "
        "not come back as it was"
    )


def as_array(value: Any) -> Any:
    """Return a value as an array; NumPy by itself refuses a single bfloat16 of TensorFlow."""
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _encode_array(array: Any, arrays: Arrays, where: str) -> dict[str, Any]:
    name = _name(array.dtype)
    if name is None:
        raise TypeError(
            f"{where} is an array of {array.dtype}, which cannot be read back; make it arrays of "
            "numbers, times, or texts of a fixed length"
        )
    number = str(len(arrays))
    # A copy: who gave it may write into it while it is being written to the volume.
    arrays[number] = np.frombuffer(array.tobytes(), np.uint8)
    return {"number": number, "dtype": name, "shape": list(array.shape)}


def _name(dtype: Any) -> str | None:
    """Return the name that NumPy reads as a type; None if there is none.

    `name` of a number says nothing about the order of its bytes, and that of a text is not read at
    all; `str` of a type that NumPy does not know, such as bfloat16, says only how large it is.
    """
    if dtype.hasobject:
        return None
    # The name first: an older commit has it, and the hash of its state with it.
    for name in (dtype.name, dtype.str):
        with contextlib.suppress(TypeError):
            if np.dtype(name) == dtype:
                return str(name)
    return None


def decode(value: Any, arrays: Arrays) -> Any:
    """Return what `encode` was given; tensors come back as arrays."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(decode(value["tuple"], arrays))
    if "dict" in value:
        return {decode(key, arrays): decode(item, arrays) for key, item in value["dict"]}
    about = value["array"]
    content = arrays[about["number"]].tobytes()
    array = np.frombuffer(content, np.dtype(about["dtype"])).reshape(about["shape"]).copy()
    return array[()] if value["scalar"] else array
