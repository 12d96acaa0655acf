"""What was found a few seconds ago, and is not asked for again.

Where a zone is lost, a thousand pods are made that mount the same few claims and ConfigMaps.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

FRESH_SECONDS = 10.0
"""As long as what is missing is not looked for again."""

T = TypeVar("T")


class Recent(Generic[T]):
    """Remembers what is known of objects by namespace and name; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._found: dict[tuple[str, str], tuple[float, T]] = {}

    def note(self, namespace: str, name: str, found: T) -> None:
        """Note what was found just now, and drop what is too old, which comes first."""
        self._found.pop((namespace, name), None)
        self._found[namespace, name] = (self._clock(), found)
        while self._is_old(first := next(iter(self._found))):
            del self._found[first]

    def of(self, namespace: str, name: str) -> T | None:
        """Return what was found, None if that is unknown or too long ago."""
        known = (namespace, name) in self._found and not self._is_old((namespace, name))
        return self._found[namespace, name][1] if known else None

    def _is_old(self, what: tuple[str, str]) -> bool:
        return self._clock() - self._found[what][0] >= FRESH_SECONDS
