"""Everything that the next step depends on, but the position: captured, restored, hashed.

`tf.train.Checkpoint(model=…, optimizer=…)` drops Keras 3's seed generators and metrics without a
word. So the variables are collected one by one: those of the model, its optimizer and its metrics,
TensorFlow's global generator, and then whatever else the traced training step reads or writes. They
are saved under their numbers; their order is the order of creation, which the fingerprint guards.

They are captured between two steps and written while training goes on. What is captured is the
value of each variable, which TensorFlow never changes: a step that finds the value of a variable in
use elsewhere writes into new memory. So capturing copies nothing, and costs at most as much memory
again as the variables have, until they are written.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_trainer import seeding

_PREFIX = "state"
_GENERATORS = "generators.json"


class TrainingState:
    """The variables of a built model, and the host's generators."""

    def __init__(self, model: Any, step_function: Any) -> None:
        groups = {
            "model": [variable.value for variable in model.variables],
            "optimizer": [variable.value for variable in model.optimizer.variables],
            "metrics": [variable.value for variable in model.metrics_variables],
            "generator": [tf.random.get_global_generator().state],
            "step": list(step_function.variables),
        }
        seen: set[int] = set()
        self.groups: dict[str, list[Any]] = {}
        for name, variables in groups.items():
            self.groups[name] = [found for found in variables if id(found) not in seen]
            seen.update(id(found) for found in variables)

    def describe(self) -> list[str]:
        """Return shape and type of each variable, in order; names are not stable over processes."""
        return [
            f"{group}: {variable.dtype.name}{variable.shape.as_list()}"
            for group, variables in self.groups.items()
            for variable in variables
        ]

    def capture(self) -> "Snapshot":
        """Return the values as they are now; of variables on an accelerator, copies on the host."""
        with tf.device("CPU:0"):
            values = {
                f"{group}/{number}": tf.identity(variable)
                for group, variables in self.groups.items()
                for number, variable in enumerate(variables)
            }
        return Snapshot(values, seeding.host_generators())

    def restore(self, folder: Path) -> None:
        """Read back what `Snapshot.write` wrote.

        Raises:
            tf.errors.OpError: a variable is not in the files.
            ValueError: a variable has another shape in the files.
        """
        variables = {
            f"{group}/{number}": variable
            for group, found in self.groups.items()
            for number, variable in enumerate(found)
        }
        values = tf.raw_ops.RestoreV2(
            prefix=str(folder / _PREFIX),
            tensor_names=list(variables),
            shape_and_slices=[""] * len(variables),
            dtypes=[variable.dtype for variable in variables.values()],
        )
        for variable, value in zip(variables.values(), values, strict=True):
            variable.assign(value)
        seeding.set_host_generators(json.loads((folder / _GENERATORS).read_bytes()))


@dataclass(frozen=True)
class Snapshot:
    """The state between two steps, whatever training does meanwhile."""

    values: dict[str, Any]
    """Each variable's value, by group and number."""
    generators: dict[str, Any]
    """Of the host."""

    def sha256(self) -> str:
        """Return the digest of every variable's type, shape and bytes."""
        digest = hashlib.sha256()
        for name, tensor in self.values.items():
            value = np.asarray(tensor)
            digest.update(f"{name.split('/')[0]} {value.dtype.str} {value.shape}\n".encode())
            digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def write(self, folder: Path) -> None:
        """Write the variables and the host's generators into a folder.

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
