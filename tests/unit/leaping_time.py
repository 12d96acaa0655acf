"""Time that passes only while everybody sleeps, so that a loaded machine cannot fail a test.

What sleeps for ten seconds wakes at once, ten seconds later by its own clock; work takes no time.
"""

import asyncio
import functools
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest


class _Leaps(selectors.DefaultSelector):
    """Where the loop would wait for its next timer, the clock leaps there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select()
        self.now += max(timeout, 0.0)
        return super().select(0)


def leaping(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in a loop whose clock leaps; `time.monotonic` tells the same time."""

    @functools.wraps(story)
    def test(*args: Any, **kwargs: Any) -> None:
        leaps = _Leaps()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: leaps.now)
            with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(leaps)) as runner:
                runner.run(story(*args, **kwargs))

    return test
