"""What leads to each variable of an object: the attributes that hold it, as a program names them.

Keras orders variables as a program sets attributes, and numbers the names that it makes up itself
by what was built before. So two layers of one shape change places if their lines do, and neither
the order, the shapes nor Keras's names tell.
"""

import re
from typing import Any

import keras
import tensorflow as tf

_VARIABLES = (keras.Variable, tf.Variable)
_OWNERS = (keras.layers.Layer, keras.Metric, keras.random.SeedGenerator, tf.Module)
_KEYS = (str, int, float)
"""Keys of dicts that are written alike in each process."""

_OF_LIBRARIES = re.compile(
    r"_self_.*|_(layers|functional|operations|operations_by_depth|tracked|metrics|seed_generators)"
    r"|_(trainable|non_trainable)_variables"
)
"""Attributes by which Keras and TensorFlow hold, in an order, what a program's own hold too."""


def names(path: str, value: Any) -> dict[int, str]:
    """Return a name for each variable that an object has, by the id of its `tf.Variable`.

    Args:
        path: Of the object.
        value: An object of Keras or TensorFlow; an optimizer gives its variables no names.
    """
    walk = _Walk()
    walk.add(path, value)
    return walk.found


class _Walk:
    def __init__(self) -> None:
        self.found: dict[int, str] = {}
        self._seen: set[int] = set()

    def add(self, path: str, value: Any) -> None:
        if isinstance(value, _VARIABLES):
            self._found(path, value)
        elif id(value) not in self._seen:
            self._seen.add(id(value))
            self._enter(path, value)

    def _enter(self, path: str, value: Any) -> None:
        if isinstance(value, list | tuple):
            for number, item in enumerate(value):
                self.add(f"{path}[{number}]", item)
        elif isinstance(value, dict):
            for key in sorted((key for key in value if isinstance(key, _KEYS)), key=repr):
                self.add(f"{path}[{key!r}]", value[key])
        elif isinstance(value, _OWNERS):
            self._enter_owner(path, value)

    def _enter_owner(self, path: str, owner: Any) -> None:
        for key, item in sorted(vars(owner).items()):
            if _is_of_program(owner, key):
                self.add(f"{path}.{key}", item)
        # In the order of their graph; what an attribute holds has its name by now.
        for number, layer in enumerate(getattr(owner, "layers", ())):
            self.add(f"{path}[{number}:{_own_name(layer)}]", layer)
        is_generator = isinstance(owner, keras.random.SeedGenerator)
        for variable in [owner.state] if is_generator else owner.variables:
            self._found(f"{path}.{_own_name(variable)}", variable)

    def _found(self, path: str, variable: Any) -> None:
        held = variable.value if isinstance(variable, keras.Variable) else variable
        self.found.setdefault(id(held), path)


def _is_of_program(owner: Any, attribute: str) -> bool:
    if type(owner).__module__.startswith("keras."):  # Another version may name them otherwise.
        return not attribute.startswith("_")
    return not _OF_LIBRARIES.fullmatch(attribute)


def _own_name(value: Any) -> str:
    """Return a name, without its number if it is one that Keras made up."""
    base = re.sub(r"_\d+$", "", value.name)
    is_made_up = base.replace("_", "") == type(value).__name__.replace("_", "").lower()
    return base if is_made_up else str(value.name)
