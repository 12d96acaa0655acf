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
from rtj_api.names import Reason

from rtj_trainer import seeding, tensor_file
from rtj_trainer.commits.manifest import FileRecord, Written
from rtj_trainer.draws import Choice, apart
from rtj_trainer.errors import PermanentError
from rtj_trainer.plain import Arrays
from rtj_trainer.tensor_file import bytes_of
from rtj_trainer.touched import Handle, handle_of, handles

_TENSORS = "state.safetensors"
_GENERATORS = "generators.json"
_OBJECTS = "objects.json"
_ARRAYS = "objects.npz"


class Objects(Protocol):
    """Python objects with state of their own, as `rtj_trainer.callbacks.CallbackRunner` has."""

    def capture(self, arrays: Arrays) -> dict[str, Any]:
        """Return all of it as JSON; `arrays` gets the bytes of each array."""

    def restore(self, document: dict[str, Any], arrays: Arrays) -> None:
        """Give it all back."""

    def variables(self) -> list[tf.Variable]:
        """Return the variables whose values their state tells."""


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

    Raises:
        PermanentError: `PipelineNotResumable`: a variable has a type that no commit can hold.
    """

    def __init__(
        self, variables: dict[str, list[tf.Variable]], functions: list[Any], objects: Objects
    ) -> None:
        self._objects = objects
        self._choice = Choice()
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
                _check_type(name, variable)
                if id(variable.resource) not in seen:
                    seen.add(id(variable.resource))
                    self.groups[name].append(variable)

    def describe(self) -> list[str]:
        """Return shape and type of each variable, in order; Keras's names differ by process."""
        return [
            f"{group}: {variable.dtype.name}{variable.shape}"
            for group, variables in self.groups.items()
            for variable in variables
        ]

    def check(self) -> None:
        """Return if a snapshot would hold all that the next step depends on.

        Raises:
            PermanentError: `PipelineNotResumable`, naming what is not in it.
        """
        self._choice.check()

    def names(self) -> dict[int, str]:
        """Return group and number of each variable, by the id of its resource."""
        return {id(handle.resource): name for name, handle in self._named().items()}

    def capture(self) -> "Snapshot":
        """Return the values as they are now; of variables on an accelerator, copies on the host.

        Raises:
            PermanentError: see `check`.
        """
        self.check()
        with tf.device("CPU:0"):
            values = {name: tf.identity(handle.read()) for name, handle in self._named().items()}
        arrays: Arrays = {}
        objects = self._objects.capture(arrays)
        return Snapshot(values, seeding.host_generators(), objects, arrays)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Give all variables and generators their values back at the end."""
        values = {handle: handle.read() for handle in self._named().values()}
        with seeding.undisturbed(), apart():
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
            OSError: a file cannot be read.
            ValueError: the file has other variables, or other shapes or types of them.
        """
        variables = self._named()
        for name, value in tensor_file.read(folder / _TENSORS):
            if name not in variables:
                raise ValueError(f"{_TENSORS} has {name!r}, which is no variable here")
            variables.pop(name).write(tf.constant(value))
        if variables:
            raise ValueError(f"{_TENSORS} does not have {', '.join(variables)}")
        objects = json.loads((folder / _OBJECTS).read_bytes())
        self._objects.restore(objects, _read_arrays(folder / _ARRAYS))
        seeding.set_host_generators(json.loads((folder / _GENERATORS).read_bytes()))


def _check_type(group: str, variable: Handle) -> None:
    if not tensor_file.can_hold(variable.dtype.name):
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE,
            f"a variable of the {group} has the type {variable.dtype.name}, which no commit can "
            "hold, so training was not started: keep numbers in it, or its value outside of the "
            "training step",
        )


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
        return self._sha256(tensor_file.sha256(self.values))

    def _sha256(self, of_tensors: str) -> str:
        digest = hashlib.sha256(f"{of_tensors}\n{self._text()}".encode())
        for array in self.arrays.values():
            digest.update(array.data)
        return digest.hexdigest()

    def equals(self, other: "Snapshot") -> bool:
        """Return whether two snapshots of the same variables hold the same bytes."""
        return (
            self._text() == other._text()
            and _same(self.arrays, other.arrays)
            and self.has_variables_of(other)
        )

    def has_variables_of(self, other: "Snapshot") -> bool:
        """Return whether the variables alone hold the same bytes, whatever callbacks keep."""
        return _same(self.values, other.values)

    def _text(self) -> str:
        return json.dumps([self.generators, self.objects])

    def write(self, folder: Path) -> Written:
        """Write the variables, the host's generators and the objects' state into a folder.

        Raises:
            OSError: they cannot be written.
        """
        path = folder / _TENSORS
        sha256 = tensor_file.write(path, self.values)
        (folder / _GENERATORS).write_text(json.dumps(self.generators))
        (folder / _OBJECTS).write_text(json.dumps(self.objects))
        if self.arrays:
            np.savez(folder / _ARRAYS, **self.arrays)
        record = FileRecord(size=path.stat().st_size, sha256=sha256)
        return Written(self._sha256(sha256), {_TENSORS: record})


def _same(mine: dict[str, Any], others: dict[str, Any]) -> bool:
    return all(bytes_of(value) == bytes_of(others.get(name)) for name, value in mine.items())


def _read_arrays(path: Path) -> Arrays:
    """Read what `Snapshot.write` wrote; without arrays there is no file."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
