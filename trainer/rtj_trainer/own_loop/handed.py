"""What a program hands over: objects whose state is in each commit, by the names it gives them."""

from collections.abc import Iterator
from typing import Any, NoReturn

import keras
import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.callbacks import CallbackRunner
from rtj_trainer.errors import PermanentError
from rtj_trainer.kept import Keeper, Kept, rehearse
from rtj_trainer.own_loop.naming import names
from rtj_trainer.plain import Arrays
from rtj_trainer.state import variables_of

_METHODS = ("get_state", "set_state")


class Handed:
    """Objects by name; all of their variables must be built.

    Variables and states are found again by the path that leads to their object, as in
    `towers['red']`, and not by the order in which a program makes or hands over its objects.
    """

    def __init__(self) -> None:
        self._objects: dict[str, Any] = {}
        self._variables: dict[str, list[tf.Variable]] = {}
        self._keepers: dict[str, Keeper] = {}

    @property
    def variables(self) -> dict[str, list[tf.Variable]]:
        """The variables by group, one for each object, in the order of the groups' names."""
        return dict(sorted(self._variables.items()))

    def names(self) -> dict[str, str]:
        """Return what leads to each variable, by its group and number.

        Of an optimizer, whose own variables are by number, what leads to those that it trains.
        """
        known: dict[int, str] = {}
        for path, item in sorted(self._objects.items()):
            known = {**names(path, item), **known}
        found = {group: [id(variable) for variable in of] for group, of in self.variables.items()}
        for path, item in sorted(self._objects.items()):
            found[f"trained by {path}"] = [id(variable.value) for variable in _trained_by(item)]
        return {
            f"{group}/{number}": known[variable]
            for group, of in found.items()
            for number, variable in enumerate(of)
            if variable in known
        }

    def add(self, name: str, value: Any) -> None:
        """Add an object, or a list, tuple or dict of them.

        Raises:
            PermanentError: `BuilderInvalid`: it is not built yet, or nothing that can be kept.
        """
        for path, item in _leaves(name, value):
            if path in self._objects:
                _refuse(f"{path!r} was handed over twice; give each object its own name")
            self._objects[path] = item
            found = _variables(path, item)
            if found is not None:
                self._variables[f"own.{path}"] = found
            elif all(callable(getattr(item, method, None)) for method in _METHODS):
                self._keepers[path] = Keeper(path, item.get_state, item.set_state)
            else:
                _refuse(
                    f"{path} is a {type(item).__name__}, whose state cannot be kept; hand over "
                    "models, layers, optimizers, metrics, variables, generators, and objects with "
                    "get_state(self) and set_state(self, state)"
                )

    def objects(self, callbacks: CallbackRunner | None) -> "Objects":
        """Return the Python state of all that was added, and of callbacks."""
        kept = Kept(tuple(keeper for _, keeper in sorted(self._keepers.items())))
        rehearse(kept.capture, kept.restore, "an object that was handed over")
        return Objects(kept, callbacks)


class Objects:
    """The Python state of a session, as `rtj_trainer.state.Objects` wants it."""

    def __init__(self, kept: Kept, callbacks: CallbackRunner | None) -> None:
        self._kept = kept
        self._callbacks = callbacks

    def capture(self, arrays: Arrays) -> dict[str, Any]:
        """Return all of it as JSON; `arrays` gets the bytes of each array."""
        document: dict[str, Any] = {"objects": self._kept.capture(arrays)}
        if self._callbacks:
            document["callbacks"] = self._callbacks.capture(arrays)
        return document

    def restore(self, document: dict[str, Any], arrays: Arrays) -> None:
        """Give it all back."""
        self._kept.restore(document["objects"], arrays)
        if self._callbacks:
            self._callbacks.restore(document["callbacks"], arrays)

    def variables(self) -> list[tf.Variable]:
        """Return the variables whose values callbacks tell; others are handed over themselves."""
        return self._callbacks.variables() if self._callbacks else []


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int | float):
                _refuse(
                    f"{path} has the key {key!r}, by which it may not be found again after a "
                    "restart; use texts or numbers as keys"
                )
            yield from _leaves(f"{path}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(f"{path}[{number}]", item)
    else:
        yield path, value


def _variables(path: str, value: Any) -> list[tf.Variable] | None:
    """Return the variables of an object of Keras or TensorFlow; None for any other."""
    if isinstance(value, keras.callbacks.Callback):
        _refuse(f"{path} is a callback, which your loop would have to call: use session.fit()")
    if isinstance(value, keras.layers.Layer):
        return _of_layer(path, value)
    if isinstance(value, keras.optimizers.Optimizer):
        _check_built(path, value, "optimizer.build(model.trainable_variables)")
        return [variable.value for variable in value.variables]
    if isinstance(value, keras.Metric):
        return [variable.value for variable in value.variables]
    if isinstance(value, keras.Variable):
        return [value.value]
    if isinstance(value, keras.random.SeedGenerator):
        return [value.state.value]
    if isinstance(value, tf.random.Generator):
        return [value.state]
    if isinstance(value, tf.Variable):
        return [value]
    return list(value.variables) if isinstance(value, tf.Module) else None


def _of_layer(path: str, layer: Any) -> list[tf.Variable]:
    _check_built(path, layer, "model.build(shape), or call it once")
    if getattr(layer, "optimizer", None) is None:
        return [variable.value for variable in layer.variables]
    _check_built(f"{path}.optimizer", layer.optimizer, "optimizer.build(model.trainable_variables)")
    return [variable for group in variables_of(layer).values() for variable in group]


def _trained_by(value: Any) -> list[Any]:
    """Return the variables that an optimizer was built for, in the order of its own."""
    own = isinstance(value, keras.optimizers.Optimizer)
    optimizer = value if own else getattr(value, "optimizer", None)
    return list(getattr(optimizer, "_trainable_variables", ()))


def _check_built(path: str, value: Any, how: str) -> None:
    if not value.built:
        _refuse(
            f"{path} has no variables yet, so none could be restored before the first step; "
            f"build it before it is handed over: {how}"
        )


def _refuse(why: str) -> NoReturn:
    raise PermanentError(Reason.BUILDER_INVALID, f"session.track(): {why}")
