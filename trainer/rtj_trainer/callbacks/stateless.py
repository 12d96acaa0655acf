"""Proves that a callback, or a function that it was given, keeps nothing between two calls.

What a callback can get at by a name must be unable to change, and must still be the same at each
commit. So before the first step its source is read. Setting an attribute, a global or a variable of
an enclosing function is keeping something; so is a name of a list, a dict or any other object that
can be changed. Names of attributes are looked up in the user's modules and classes that the code
speaks of, and in all parts of the model, whatever they are read of: a list of the model may have
come there by a local variable. At each commit what was found must be unchanged (`Prover.changed`).

What may be set is `learning_rate` and `stop_training`: the first is a variable, the second is
saved. Neither may be set by the clock, which no restart repeats. What Keras has made is trusted,
and libraries are, but for variables, which `rtj_trainer.watch` looks at.
"""

import enum
import functools
import logging
import pathlib
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rtj_trainer.callbacks.code import MAY_BE_SET, NOT_IMPORTED, Source, is_library

_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    enum.Enum,
    pathlib.PurePath,
    np.generic,
    np.dtype,
    np.ufunc,
    tf.DType,
    tf.Tensor,
    type,
    types.ModuleType,
    logging.Logger,
)
_FROM_TRAINER = {"params", "_model"}
_BEFORE_TRAINING = {"__init__", "__new__", "__init_subclass__", "__post_init__", "__set_name__"}


class Prover:
    """Looks at everything that a callback can reach, each thing once.

    Args:
        model: The job's; it and its layers, metrics and optimizer are saved as variables.
    """

    def __init__(self, model: Any) -> None:
        parts = [model, model.optimizer, *model._flatten_layers(), *model.metrics]
        self._kept = {id(part) for part in parts}
        kinds = {kind for part in parts for kind in type(part).__mro__ if _is_users(kind)}
        self._of_model = [vars(owner) for owner in (*parts, *kinds)]
        self._seen: set[tuple[int, bool]] = set()
        self._found: list[tuple[str, Mapping[str, Any], str, Any]] = []
        self._names: list[tuple[Any, set[str]]] = []

    def changed(self) -> str | None:
        """Return what the proof has found and is no longer the same; None if all is."""
        for name, owner, key, value in self._found:
            if owner.get(key) is not value:
                return f"{name} is no longer what it was before the first step"
        for callback, names in self._names:
            if new := vars(callback).keys() - names - _FROM_TRAINER:
                return f"self.{min(new)} is there since the first step"
        return None

    def callback_keeps(self, callback: Any) -> str | None:
        """Return what a callback keeps between two calls, for the user; None if nothing."""
        for kind in type(callback).__mro__:
            if kind is keras.callbacks.Callback:
                break
            for name, member in vars(kind).items():
                if _runs_in_training(name, member) and (
                    found := self._entry_keeps(f"{kind.__name__}.{name}", vars(kind), name)
                ):
                    return found
        self._names.append((callback, set(vars(callback))))
        for name in sorted(vars(callback).keys() - _FROM_TRAINER):
            if found := self._entry_keeps(f"self.{name}", vars(callback), name):
                return found
        return None

    def value_keeps(self, name: str, value: Any) -> str | None:
        """Return how a value can keep something between two calls; None if it cannot."""
        if value is NOT_IMPORTED:
            return f"{name} is imported only when it is called; import it at the top of the file"
        if isinstance(value, _PLAIN) or id(value) in self._kept:
            return None
        if isinstance(value, tuple | frozenset):
            found = (self.value_keeps(name, item) for item in value)
            return next((problem for problem in found if problem), None)
        if isinstance(value, functools.partial):
            return self.value_keeps(name, (value.func, value.args, tuple(value.keywords.values())))
        if isinstance(value, types.MethodType):
            return self.value_keeps(name, (value.__self__, value.__func__))
        if isinstance(value, types.BuiltinFunctionType):
            return self.value_keeps(name, value.__self__)
        if isinstance(value, property):
            return self.value_keeps(name, (value.fget, value.fset))
        if isinstance(value, classmethod | staticmethod):
            return self.value_keeps(name, value.__func__)
        if isinstance(value, types.FunctionType):
            return self._function_keeps(value)
        return f"{name} is a {type(value).__name__}, which can change"

    def _function_keeps(self, function: Any, fresh: bool = False) -> str | None:
        """Return what a function keeps; `fresh` if its first argument is made in a call."""
        if (id(function), fresh) in self._seen:
            return None
        self._seen.add((id(function), fresh))
        if found := self.value_keeps(function.__qualname__, getattr(function, "__wrapped__", None)):
            return found
        outer = function.__code__
        if is_library(outer.co_filename) or _is_generated(outer):
            return None
        file = pathlib.Path(outer.co_filename).name
        where = f"{file}:{outer.co_firstlineno} {function.__qualname__}"
        try:
            source = Source(function)
        except OSError:
            return f"{where} has no source that the check could read"
        if found := source.sets(fresh):
            return f"{where} {found}"
        return self._reached_keeps(where, function, source)

    def _reached_keeps(self, where: str, function: Any, source: Source) -> str | None:
        attributes = source.attributes()
        for owner in self._of_model:
            for name in sorted(attributes & owner.keys() - MAY_BE_SET):
                said = f"{where} uses {name} of the model, which"
                if not _is_of_keras(owner[name]) and (
                    found := self._entry_keeps(said, owner, name)
                ):
                    return found
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        if found := self.value_keeps(f"{where} uses a default argument, which", defaults):
            return found
        for name, owner, key in _along(source.roots(), function.__globals__, attributes):
            method = isinstance(owner[key], types.FunctionType) and _makes_instances(owner)
            if found := (
                self._function_keeps(owner[key], fresh=True)
                if method
                else self._entry_keeps(f"{where} uses {name}, which", owner, key)
            ):
                return found
        return None

    def _entry_keeps(self, said: str, owner: Mapping[str, Any], key: str) -> str | None:
        self._found.append((said.removesuffix(", which"), owner, key, owner[key]))
        return self.value_keeps(said, owner[key])


def _along(
    roots: dict[str, Any], known: Mapping[str, Any], attributes: set[str]
) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield where each root is held, and what of the user's modules and classes is read of it."""
    found = [(name, known if known.get(name) is roots[name] else roots, name) for name in roots]
    seen: set[int] = set()
    while found:
        name, owner, key = found.pop(0)
        yield name, owner, key
        value = owner[key]
        if _is_users(value) and id(value) not in seen:
            seen.add(id(value))
            for part in filter(_is_users, (value, *getattr(value, "__mro__", ()))):
                read = sorted(attributes & vars(part).keys())
                found += [(f"{name}.{attribute}", vars(part), attribute) for attribute in read]


def _is_users(value: Any) -> bool:
    """Return whether a value is a module, a class or a function that is in no library."""
    if not isinstance(value, types.ModuleType | type | types.FunctionType | enum.Enum):
        return False
    module = value if isinstance(value, types.ModuleType) else sys.modules.get(value.__module__)
    return not is_library(getattr(module, "__file__", None))


def _is_of_keras(value: Any) -> bool:
    """Return whether a part of a model changes by nothing but variables."""
    if isinstance(value, list | dict | set | keras.callbacks.Callback):
        return False
    of_tensorflow = isinstance(value, tf.Variable | tf.random.Generator)
    return of_tensorflow or type(value).__module__.startswith("keras.")


def _makes_instances(owner: Mapping[str, Any]) -> bool:
    """Return whether this is a class whose instances are no constants: one that stays is found."""
    return isinstance(owner, types.MappingProxyType) and "_member_map_" not in owner


def _runs_in_training(name: str, member: Any) -> bool:
    dunder = name.startswith("__") and name.endswith("__")
    return not dunder or (isinstance(member, types.FunctionType) and name not in _BEFORE_TRAINING)


def _is_generated(code: types.CodeType) -> bool:
    """Return whether dataclasses or namedtuple made it, which write a text that they run."""
    return code.co_filename == "<string>" and code.co_name.startswith("__")
