"""Everything that the next step depends on, but the position: captured, restored, hashed.

`tf.train.Checkpoint(model=…, optimizer=…)` drops Keras 3's seed generators and metrics without a
word. So the variables are collected one by one: those of the model, its optimizer and its metrics,
the global generators of TensorFlow and Keras, and then whatever else the traced training step can
reach (`rtj_trainer.touched`). They are saved under their numbers; their order is the order of
creation, which the fingerprint guards.

They are captured between two steps and written while training goes on. What is captured is the
value of each variable, which TensorFlow never changes: a step that finds the value of a variable in
use elsewhere writes into new memory. So capturing copies nothing, and costs at most as much memory
again as the variables have, until they are written.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_trainer import seeding
from rtj_trainer.callbacks import CallbackRunner
from rtj_trainer.plain import Arrays
from rtj_trainer.touched import Handle, handle_of, handles

_PREFIX = "state"
_GENERATORS = "generators.json"
_CALLBACKS = "callbacks.json"
_ARRAYS = "callbacks.npz"


class TrainingState:
    """The variables of a built model, the host's generators, and the callbacks' own state.

    Args:
        model: The built model.
        functions: The traced functions whose variables are part of it.
        callbacks: The job's.
    """

    def __init__(self, model: Any, functions: list[Any], callbacks: CallbackRunner) -> None:
        self._callbacks = callbacks
        generators = [tf.random.get_global_generator().state, seeding.keras_generator().state.value]
        groups = {
            "model": [variable.value for variable in model.variables],
            "optimizer": [variable.value for variable in model.optimizer.variables],
            "metrics": [variable.value for variable in model.metrics_variables],
            "generator": generators,
        }
        found = {
            name: [handle_of(variable.handle) for variable in variables]
            for name, variables in groups.items()
        }
        found["step"] = [handle for function in functions for handle in handles(function)]
        seen: set[int] = set()
        self.groups: dict[str, list[Handle]] = {}
        for name, variables in found.items():
            self.groups[name] = []
            for variable in variables:
                if variable is None:
                    raise AssertionError(f"a variable of the {name} has no type")
                if id(variable.resource) not in seen:
                    seen.add(id(variable.resource))
                    self.groups[name].append(variable)

    def describe(self) -> list[str]:
        """Return shape and type of each variable, in order; names are not stable over processes."""
        return [
            f"{group}: {variable.dtype.name}{variable.shape}"
            for group, variables in self.groups.items()
            for variable in variables
        ]

    def capture(self) -> "Snapshot":
        """Return the values as they are now; of variables on an accelerator, copies on the host."""
        with tf.device("CPU:0"):
            values = {name: tf.identity(handle.read()) for name, handle in self._named().items()}
        arrays: Arrays = {}
        callbacks = self._callbacks.capture(arrays)
        return Snapshot(values, seeding.host_generators(), callbacks, arrays)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Give all variables and generators their values back at the end."""
        values = {handle: handle.read() for handle in self._named().values()}
        with seeding.undisturbed():
            try:
                yield
            finally:
                for handle, value in values.items():
                    handle.write(value)

    def _named(self) -> dict[str, Handle]:
        return {
            f"{group}/{number}": handle
            for group, found in self.groups.items()
            for number, handle in enumerate(found)
        }

    def restore(self, folder: Path) -> None:
        """Read back what `Snapshot.write` wrote.

        Raises:
            tf.errors.OpError: a variable is not in the files.
            ValueError: a variable has another shape in the files.
        """
        variables = self._named()
        values = tf.raw_ops.RestoreV2(
            prefix=str(folder / _PREFIX),
            tensor_names=list(variables),
            shape_and_slices=[""] * len(variables),
            dtypes=[variable.dtype for variable in variables.values()],
        )
        for variable, value in zip(variables.values(), values, strict=True):
            variable.write(value)
        callbacks = json.loads((folder / _CALLBACKS).read_bytes())
        self._callbacks.restore(callbacks, _read_arrays(folder / _ARRAYS))
        seeding.set_host_generators(json.loads((folder / _GENERATORS).read_bytes()))


@dataclass(frozen=True)
class Snapshot:
    """The state between two steps, whatever training does meanwhile."""

    values: dict[str, Any]
    """Each variable's value, by group and number."""
    generators: dict[str, Any]
    """Of the host."""
    callbacks: dict[str, Any]
    """From `CallbackRunner.capture`."""
    arrays: Arrays
    """The bytes of what `callbacks` speaks of."""

    def sha256(self) -> str:
        """Return the digest of every variable's type, shape and bytes, and of all else in it."""
        digest = hashlib.sha256(self._text().encode())
        for array in self.arrays.values():
            digest.update(array.data)
        for name, tensor in self.values.items():
            value = np.asarray(tensor)
            digest.update(f"{name.split('/')[0]} {value.dtype.str} {value.shape}\n".encode())
            digest.update(_bytes(value))
        return digest.hexdigest()

    def equals(self, other: "Snapshot") -> bool:
        """Return whether two snapshots of the same variables hold the same bytes."""
        pairs = [(value, other.values[name]) for name, value in self.values.items()]
        pairs += [(array, other.arrays.get(name)) for name, array in self.arrays.items()]
        return self._text() == other._text() and all(
            _bytes(mine) == _bytes(theirs) for mine, theirs in pairs
        )

    def _text(self) -> str:
        return json.dumps([self.generators, self.callbacks])

    def write(self, folder: Path) -> None:
        """Write the variables, the host's generators and the callbacks' state into a folder.

        Raises:
            OSError: they cannot be written.
        """
        try:
            tf.raw_ops.SaveV2(
                prefix=str(folder / _PREFIX),
                tensor_names=list(self.values),
                shape_and_slices=[""] * len(self.values),
                tensors=list(self.values.values()),
            )
        except tf.errors.OpError as error:
            raise OSError(f"TensorFlow cannot write into {folder}: {error.message}") from error
        (folder / _GENERATORS).write_text(json.dumps(self.generators))
        (folder / _CALLBACKS).write_text(json.dumps(self.callbacks))
        if self.arrays:
            np.savez(folder / _ARRAYS, **self.arrays)


def _read_arrays(path: Path) -> Arrays:
    """Read what `Snapshot.write` wrote; without arrays there is no file."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _bytes(value: Any) -> memoryview:
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
