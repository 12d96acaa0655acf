"""How long things have been silent, measured only while the API server was heard.

A change counts from the moment when this process saw it, on its own monotonic clock. While the API
server cannot be reached everything looks silent, so each clock starts anew after such a gap: an
outage of the control plane must never be taken for the death of every node. Silence is known only
up to the last contact: a process that was stopped for an hour has heard nothing in that hour, not
silence.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

LONGEST_GAP_SECONDS = 6.0
"""Without contact for longer than this, silence proves nothing. The leader's Lease alone is renewed
every two seconds."""

FORGET_AFTER_SECONDS = 3600.0


@dataclass
class _Entry:
    value: Hashable
    since: float
    touched: float


class Silences:
    """Remembers when each value was last seen to change."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[Hashable, _Entry] = {}
        self._contact = clock()
        self._reset = clock()
        self._pruned = clock()

    def contact(self) -> None:
        """Note that the API server has just answered."""
        now = self._clock()
        if now - self._contact > LONGEST_GAP_SECONDS:
            self._reset = now
        self._contact = now
        if now - self._pruned > FORGET_AFTER_SECONDS:
            self._prune(now)

    def interrupted(self) -> None:
        """Note that the API server has just failed to answer: all silence counts from here."""
        self._reset = self._clock()

    def since_contact(self) -> float:
        """Return the seconds since the API server last answered."""
        return self._clock() - self._contact

    def uninterrupted(self) -> float:
        """Return for how long the API server has been heard without a gap."""
        return self._clock() - self._reset

    def knows(self, subject: Hashable) -> bool:
        """Whether anything was ever seen of the subject."""
        return subject in self._entries

    def seconds(self, subject: Hashable, value: Hashable) -> float:
        """Note what the subject says now, and return for how long it has said just that."""
        now = self._clock()
        entry = self._entries.get(subject)
        if entry is None or entry.value != value:
            entry = self._entries[subject] = _Entry(value, now, now)
        entry.touched = now
        return self._silent(entry)

    def of(self, subject: Hashable) -> float:
        """Return for how long the subject has said the same; 0 if it was never heard."""
        entry = self._entries.get(subject)
        if entry is None:
            return 0.0
        return self._silent(entry)

    def _silent(self, entry: _Entry) -> float:
        return max(self._contact - max(entry.since, self._reset), 0.0)

    def _prune(self, now: float) -> None:
        self._pruned = now
        old = [s for s, e in self._entries.items() if now - e.touched > FORGET_AFTER_SECONDS]
        for subject in old:
            del self._entries[subject]
