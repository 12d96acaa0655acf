"""Proves that a callback, or a function that it was given, keeps nothing between two calls.

The proof is by its code, and errs on the side of refusing. Setting an attribute, a global or a
variable of an enclosing function is keeping something; so is holding a list, a dict or any other
object that could be changed. What may be set is `learning_rate` and `stop_training`: the first is a
variable, the second is saved. Neither may be set by the clock, which no restart repeats.

What is read of the user's modules and classes by name is looked at like a global. The model is
trusted, since it is saved as variables, but for lists and dicts that are changed in it.
"""

import enum
import functools
import inspect
import logging
import pathlib
import sys
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rtj_trainer.callbacks import code

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
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


class Prover:
    """Looks at everything that a callback can reach, each thing once.

    Args:
        model: The job's; it and its layers and optimizer are saved as variables.
    """

    def __init__(self, model: Any) -> None:
        self._kept = {id(model), id(model.optimizer)} | {id(x) for x in model._flatten_layers()}
        self._seen: set[int] = set()

    def callback_keeps(self, callback: Any) -> str | None:
        """Return what a callback keeps between two calls, for the user; None if nothing."""
        for kind in type(callback).__mro__:
            if kind is keras.callbacks.Callback:
                break
            for name, member in vars(kind).items():
                own = not name.startswith("__") or name == "__call__"
                if own and (found := self._member_keeps(f"{kind.__name__}.{name}", member)):
                    return found
        for name, value in vars(callback).items():
            own = name not in ("params", "_model")
            if own and (found := self.value_keeps(f"self.{name}", value)):
                return found
        return None

    def _member_keeps(self, name: str, member: Any) -> str | None:
        if not isinstance(member, types.FunctionType | property | classmethod | staticmethod):
            return self.value_keeps(name, member)
        found = (self.function_keeps(function) for function in functions_of(member))
        return next((problem for problem in found if problem), None)

    def function_keeps(self, function: Any) -> str | None:
        """Return what a function keeps between two calls; None if nothing."""
        if id(function) in self._seen:
            return None
        self._seen.add(id(function))
        outer = function.__code__
        file = pathlib.Path(outer.co_filename).name
        where = f"{file}:{outer.co_firstlineno} {function.__qualname__}"
        if found := code.sets(outer):
            return f"{where} sets {found}"
        if found := _changes(function):
            return f"{where} changes {found}"
        for name, value in _reaches(function):
            if found := self.value_keeps(f"{where} uses {name}, which", value):
                return found
        return None

    def value_keeps(self, name: str, value: Any) -> str | None:
        """Return how a value can keep something between two calls; None if it cannot."""
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
        if isinstance(value, types.FunctionType):
            library = value.__code__.co_filename.startswith(_LIBRARIES)
            return None if library else self.function_keeps(value)
        return f"{name} is a {type(value).__name__}, which can change"


def functions_of(member: Any) -> Iterator[Any]:
    """Yield the functions that a member of a class consists of."""
    parts = (member.fget, member.fset) if isinstance(member, property) else (member,)
    for part in parts:
        found = inspect.unwrap(getattr(part, "__func__", part)) if part else None
        if isinstance(found, types.FunctionType):
            yield found


def _reaches(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the globals, enclosed variables and defaults that a function can reach."""
    for names, is_global in code.paths(function.__code__):
        if is_global and names[0] in function.__globals__:
            yield from _along(names, function.__globals__[names[0]])
    for name, value in _enclosed(function):
        # super() and a method's own class are found here too, as classes.
        yield name, value
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield "a default argument", value


def _along(names: list[str], value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a value, and the attributes that are read of it while it is a module or a class."""
    yield names[0], value
    for number, name in enumerate(names[1:], start=2):
        if not _is_users(value) or not hasattr(value, name):
            return
        value = getattr(value, name)
        yield ".".join(names[:number]), value


def _is_users(value: Any) -> bool:
    """Return whether a value is a module or a class that is in no library."""
    module = sys.modules.get(value.__module__) if isinstance(value, type) else value
    if not isinstance(module, types.ModuleType):
        return False
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not file.startswith(_LIBRARIES)


def _enclosed(function: Any) -> Iterator[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        try:
            yield name, cell.cell_contents
        except ValueError:  # It has no value yet.
            continue


def _changes(function: Any) -> str | None:
    """Return what the function changes in place, if that outlives the call."""
    outer = function.__code__
    others = {*outer.co_freevars, *outer.co_varnames[: min(outer.co_argcount, 1)]}
    for names, is_global in code.paths(outer):
        if len(names) < 3 or names[-1] not in code.CHANGERS:
            continue
        root = function.__globals__.get(names[0])
        followed = isinstance(root, types.ModuleType | type)  # By `_along`, or a library's.
        if not followed if is_global else names[0] in others:
            return f"{'.'.join(names[:-1])}, by {names[-1]}()"
    return None
