"""Finds callbacks that seed a global generator, by their code and before the first step.

What another function does that they call is only seen when it is done (`rtj_trainer.draws`).
"""

import functools
import pathlib
import types
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from rtj_trainer.callbacks import code
from rtj_trainer.callbacks.stateless import functions_of

_RESEEDING = (
    tf.random.set_seed,
    tf.random.set_global_generator,
    tf.compat.v1.set_random_seed,
    keras.utils.set_random_seed,
    keras.utils.clear_session,
)


def reseeds(callback: Any) -> str | None:
    """Return where a callback seeds or replaces a global generator, and by what; None if nowhere.

    Args:
        callback: A keras.callbacks.Callback.
    """
    for function in _functions(callback):
        for name, value in _reads(function):
            if any(value is found for found in _RESEEDING):
                outer = function.__code__
                file = pathlib.Path(outer.co_filename).name
                return f"{file}:{outer.co_firstlineno} {function.__qualname__} uses {name}"
    return None


def _functions(callback: Any) -> Iterator[Any]:
    """Yield the methods of a callback that are not Keras's own, and the functions it was given."""
    for kind in type(callback).__mro__:
        if not kind.__module__.startswith("keras."):
            for member in vars(kind).values():
                if isinstance(member, types.FunctionType | property | classmethod | staticmethod):
                    yield from functions_of(member)
    for value in vars(callback).values():
        while isinstance(value, functools.partial):
            value = value.func
        if isinstance(value, types.FunctionType) and not value.__module__.startswith("keras."):
            yield value


def _reads(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield each value that a function reads by the name of a global and of what is in modules."""
    for names, is_global in code.paths(function.__code__):
        value = function.__globals__.get(names[0]) if is_global else None
        for name in names[1:]:
            if isinstance(value, types.ModuleType):
                value = getattr(value, name, None)
        yield ".".join(names), value
