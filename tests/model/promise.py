"""A promise is a check with a name, and whoever finds it broken tells the name.

So a bug that was put in on purpose is known to be found by the promise that it breaks, and not by
luck by another one.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

PROMISES: list[str] = []
"""The names of all."""

only: str | None = None
"""The one that is checked; None means all."""


class BrokenPromiseError(AssertionError):
    """A promise was not kept."""

    def __init__(self, promise: str, why: AssertionError) -> None:
        super().__init__(f"{promise}: {why}")
        self.promise = promise


def promise(check: Callable[P, None]) -> Callable[P, None]:
    """Let the failure of a check tell its name."""
    name = check.__name__
    PROMISES.append(name)

    @functools.wraps(check)
    def named(*args: P.args, **kwargs: P.kwargs) -> None:
        if only not in (None, name):
            return
        try:
            check(*args, **kwargs)
        except AssertionError as error:
            raise BrokenPromiseError(name, error) from error

    return named
