"""Everything that the next step depends on, but the position: captured, restored, hashed.

`tf.train.Checkpoint(model=…, optimizer=…)` drops Keras 3's seed generators and metrics without a
word. So the variables are collected one by one: those of the model, its optimizer and its metrics,
TensorFlow's global generator, and then whatever else the traced training step reads or writes. They
are saved as plain lists; their order is the order of creation, which the fingerprint guards.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

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

    def sha256(self) -> str:
        """Return the digest of every variable's type, shape and bytes."""
        digest = hashlib.sha256()
        for group, variables in self.groups.items():
            for variable in variables:
                value = variable.numpy()
                digest.update(f"{group} {value.dtype.str} {value.shape}\n".encode())
                digest.update(value.tobytes())
        return digest.hexdigest()

    def write(self, folder: Path) -> None:
        """Write the variables and the host's generators into a folder.

        Raises:
            OSError: they cannot be written.
        """
        try:
            self._checkpoint().write(str(folder / _PREFIX))
        except tf.errors.OpError as error:
            raise OSError(f"TensorFlow cannot write into {folder}: {error.message}") from error
        content = json.dumps(seeding.host_generators()).encode()
        (folder / _GENERATORS).write_bytes(content)

    def restore(self, folder: Path) -> None:
        """Read back what `write` wrote.

        Raises:
            AssertionError: something is in the model but not in the files, or the reverse.
        """
        self._checkpoint().read(str(folder / _PREFIX)).assert_consumed()
        seeding.set_host_generators(json.loads((folder / _GENERATORS).read_bytes()))

    def _checkpoint(self) -> Any:
        return tf.train.Checkpoint(**self.groups)
