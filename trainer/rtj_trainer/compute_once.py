"""Has Python compute once what TensorFlow's import asks for again and again.

Each of its 1,300 generated operations names its types by the same few dozen strings, which `typing`
compiles each time, and has its signature taken four times over by one decorator after the other.
Code objects and signatures never change, so all may have the same one.
"""

import inspect
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_SIGNATURE = "_signature_from_function"
"""Of `inspect`, which every way to a signature leads to; what has no such name is left alone."""


@contextmanager
def computing_once() -> Iterator[None]:
    """While this lasts, remember compiled annotations and signatures of functions."""
    vars(typing)["compile"] = cache(compile)
    computed = vars(inspect).get(_SIGNATURE)
    if computed:
        vars(inspect)[_SIGNATURE] = _remembering(computed)
    try:
        yield
    finally:
        del vars(typing)["compile"]
        if computed:
            vars(inspect)[_SIGNATURE] = computed


def _remembering(signature_of: Any) -> Any:
    known = cache(signature_of)

    def remembered(*arguments: Any, **options: Any) -> Any:
        try:
            return known(*arguments, **options)
        except TypeError:  # Not hashable, or no function: that is told again.
            return signature_of(*arguments, **options)

    return remembered
