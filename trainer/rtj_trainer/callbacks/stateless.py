"""Proves that a callback, or a function that it was given, keeps nothing between two calls.

The proof is by its code, and errs on the side of refusing. Setting an attribute, a global or a
variable of an enclosing function is keeping something; so is holding a list, a dict or any other
object that could be changed. What may be set is `learning_rate` and `stop_training`: the first is a
variable, the second is saved.
"""

import dis
import enum
import functools
import inspect
import logging
import pathlib
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_MAY_BE_SET = {"learning_rate", "lr", "stop_training"}
_SETTERS = {"setattr", "delattr", "globals", "vars", "exec", "eval", "__setattr__", "__dict__"}
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
_NAMED = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_ATTR", "LOAD_METHOD")
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
        found = (self.function_keeps(function) for function in _functions(member))
        return next((problem for problem in found if problem), None)

    def function_keeps(self, function: Any) -> str | None:
        """Return what a function keeps between two calls; None if nothing."""
        if id(function) in self._seen:
            return None
        self._seen.add(id(function))
        code = function.__code__
        where = (
            f"{pathlib.Path(code.co_filename).name}:{code.co_firstlineno} {function.__qualname__}"
        )
        if found := _sets(code):
            return f"{where} sets {found}"
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


def _functions(member: Any) -> Iterator[Any]:
    """Yield the functions that a member of a class consists of."""
    parts = (member.fget, member.fset) if isinstance(member, property) else (member,)
    for part in parts:
        found = inspect.unwrap(getattr(part, "__func__", part)) if part else None
        if isinstance(found, types.FunctionType):
            yield found


def _codes(code: Any) -> Iterator[Any]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _sets(outer: Any) -> str | None:
    """Return the name of what the code sets, if that outlives the call."""
    for code in _codes(outer):
        for step in dis.get_instructions(code):
            name = str(step.argval)
            if step.opname in ("STORE_ATTR", "DELETE_ATTR") and name not in _MAY_BE_SET:
                return f"the attribute {name}"
            if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                return f"the global {name}"
            if step.opname in ("STORE_DEREF", "DELETE_DEREF") and name in outer.co_freevars:
                return f"{name} of the enclosing function"
            if step.opname in _NAMED and name in _SETTERS:
                return f"what cannot be seen, by {name}"
    return None


def _reaches(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the globals, enclosed variables and defaults that a function can reach."""
    for code in _codes(function.__code__):
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in function.__globals__:
                yield str(step.argval), function.__globals__[step.argval]
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        try:
            value = cell.cell_contents
        except ValueError:  # It has no value yet.
            continue
        # super() and a method's own class are found here too, as classes.
        yield name, value
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield "a default argument", value
