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
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from rtj_trainer import seeding
from rtj_trainer.plain import Arrays
from rtj_trainer.touched import Handle, handle_of, handles

_PREFIX = "state"
_GENERATORS = "generators.json"
_OBJECTS = "callbacks.json"
_ARRAYS = "callbacks.npz"


class Objects(Protocol):
    """Python objects with state of their own, as `rtj_trainer.callbacks.CallbackRunner` has."""

    def capture(self, arrays: Arrays) -> dict[str, Any]:
        """Return all of it as JSON; `arrays` gets the bytes of each array."""

    def restore(self, document: dict[str, Any], arrays: Arrays) -> None:
        """Give it all back."""


def variables_of(model: Any) -> dict[str, list[tf.Variable]]:
    """Return the variables of a model that is compiled and built, by group."""
    return {
        "model": [variable.value for variable in model.variables],
        "optimizer": [variable.value for variable in model.optimizer.variables],
        "metrics": [variable.value for variable in model.metrics_variables],
    }


class TrainingState:
    """Variables, the host's generators, and the state of Python objects.

    Args:
        variables: By group; they must be built.
        functions: The traced functions whose variables are part of it.
        objects: The callbacks of the job, or what else has state.
    """

    def __init__(
        self, variables: dict[str, list[tf.Variable]], functions: list[Any], objects: Objects
    ) -> None:
        self._objects = objects
        generators = [tf.random.get_global_generator().state, seeding.keras_generator().state.value]
        found = {
            name: [handle_of(variable.handle) for variable in group]
            for name, group in {**variables, "generator": generators}.items()
        }
        found["step"] = [handle for function in functions for handle in handles(function)]
        seen: set[int] = set()
        self.groups: dict[str, list[Handle]] = {}
        for name, group in found.items():
            self.groups[name] = []
            for variable in group:
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
        objects = self._objects.capture(arrays)
        return Snapshot(values, seeding.host_generators(), objects, arrays)

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
        objects = json.loads((folder / _OBJECTS).read_bytes())
        self._objects.restore(objects, _read_arrays(folder / _ARRAYS))
        seeding.set_host_generators(json.loads((folder / _GENERATORS).read_bytes()))


@dataclass(frozen=True)
class Snapshot:
    """The state between two steps, whatever training does meanwhile."""

    values: dict[str, Any]
    """Each variable's value, by group and number."""
    generators: dict[str, Any]
    """Of the host."""
    objects: dict[str, Any]
    """From `Objects.capture`."""
    arrays: Arrays
    """The bytes of what `objects` speaks of."""

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
        return json.dumps([self.generators, self.objects])

    def write(self, folder: Path) -> None:
        """Write the variables, the host's generators and the objects' state into a folder.

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
        (folder / _OBJECTS).write_text(json.dumps(self.objects))
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
