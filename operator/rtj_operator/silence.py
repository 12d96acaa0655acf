"""How long things have been silent, measured only while the API server was heard.

A change counts from the moment when this process saw it, on its own monotonic clock. While the API
server cannot be reached everything looks silent: an outage of the control plane must never be taken
for the death of every node. So there are two measures. Seconds on end start anew after each gap,
which is right for what is judged within seconds. What is judged after many minutes would never be,
where an answer is lost now and then: of that all seconds count but those of the gaps. Silence is
known only up to the last contact: a process that was stopped for an hour has heard nothing in that
hour, not silence.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

LONGEST_GAP_SECONDS = 6.0
"""Without contact for longer than this, silence proves nothing. The leader's Lease alone is renewed
every two seconds."""

SETTLE_SECONDS = 10.0
"""After a gap it may take so long until everybody who is there has spoken again; a trainer beats
every five seconds. After a shorter gap it takes as long as that was."""

FORGET_AFTER_SECONDS = 3600.0


@dataclass
class _Entry:
    value: Hashable
    since: float
    heard: float
    touched: float


class Silences:
    """Remembers when each value was last seen to change."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[Hashable, _Entry] = {}
        self._contact = clock()
        self._reset = clock()
        self._pruned = clock()
        self._deaf = False
        """Whether an answer is missing since the last contact."""
        self._heard = 0.0
        """Seconds in which everybody could be heard."""
        self._settled = clock()
        """When everybody must have spoken again after the last gap."""

    def contact(self) -> None:
        """Note that the API server has just answered."""
        now = self._clock()
        passed = now - self._contact
        if passed > LONGEST_GAP_SECONDS:
            self._reset, self._deaf = now, True
        if self._deaf:
            self._deaf, self._settled = False, now + min(passed, SETTLE_SECONDS)
        else:
            self._heard += max(now - max(self._contact, self._settled), 0.0)
        self._contact = now
        if now - self._pruned > FORGET_AFTER_SECONDS:
            self._prune(now)

    def interrupted(self) -> None:
        """Note that the API server has just failed to answer: from here seconds on end count."""
        self._reset, self._deaf = self._clock(), True

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
        """Note what the subject says now; return for how many seconds on end it has said that."""
        return self._on_end(self._note(subject, value))

    def seconds_in_all(self, subject: Hashable, value: Hashable) -> float:
        """Note what it says now; return the seconds for which it has said that, less the gaps."""
        return self._in_all(self._note(subject, value))

    def of(self, subject: Hashable) -> float:
        """Return for how many seconds on end it has said the same; 0 if it was never heard."""
        entry = self._entries.get(subject)
        return self._on_end(entry) if entry else 0.0

    def _note(self, subject: Hashable, value: Hashable) -> _Entry:
        now = self._clock()
        entry = self._entries.get(subject)
        if entry is None or entry.value != value:
            entry = self._entries[subject] = _Entry(value, now, self._heard, now)
        entry.touched = now
        return entry

    def _on_end(self, entry: _Entry) -> float:
        return max(self._contact - max(entry.since, self._reset), 0.0)

    def _in_all(self, entry: _Entry) -> float:
        return max(min(self._contact - entry.since, self._heard - entry.heard), 0.0)

    def _prune(self, now: float) -> None:
        self._pruned = now
        old = [s for s, e in self._entries.items() if now - e.touched > FORGET_AFTER_SECONDS]
        for subject in old:
            del self._entries[subject]
