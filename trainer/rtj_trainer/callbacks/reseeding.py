"""Finds callbacks that seed a global generator, by their code and before the first step.

What another function does that they call is only seen when it is done (`rtj_trainer.draws`).
"""

import functools
import inspect
import pathlib
import types
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework import random_seed

from rtj_trainer.callbacks.code import Source, is_library

_RESEEDING = (
    tf.random.set_seed,
    tf.random.set_global_generator,
    random_seed.set_random_seed,  # tf.compat.v1 has it; to read it there would import all of that.
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
    kinds = [kind for kind in type(callback).__mro__ if not kind.__module__.startswith("keras.")]
    members = [member for kind in kinds for member in vars(kind).values()]
    for member in [*members, *vars(callback).values()]:
        parts = (member.fget, member.fset) if isinstance(member, property) else (member,)
        for part in parts:
            while isinstance(part, functools.partial):
                part = part.func
            found = inspect.unwrap(getattr(part, "__func__", part)) if part else None
            if isinstance(found, types.FunctionType) and not is_library(found.__code__.co_filename):
                yield found


def _reads(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield each value that a function reads by the name of a root and of what is in modules."""
    try:
        source = Source(function)
    except OSError:  # If something is seeded, that is found at the next commit.
        return
    roots = source.roots()
    for names in source.chains():
        value = roots.get(names[0])
        for name in names[1:]:
            if isinstance(value, types.ModuleType):
                value = getattr(value, name, None)
        yield ".".join(names), value
