"""A work queue of keys: each waits at most once, and is never worked on twice at the same time.

When more is to be done than can be, as after the loss of a zone, what needs an answer goes before
what is only to be shown. The latter has patience, and is as urgent as anything once that is over.
Until then it is not begun beside several other turns, though a worker were free: it would take from
the API server what they need.
"""

import asyncio
import contextlib
import heapq
import logging
import math
import time
from collections.abc import Awaitable, Callable

from rtj_operator.cluster import ClusterError, ConflictError, Key, UnavailableError
from rtj_operator.metrics import RECONCILE

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.05
LONGEST_RETRY_SECONDS = 60.0
LONGEST_CONFLICT_SECONDS = 1.0
"""Somebody wrote first. That is no sign of trouble, and the next look knows what they wrote."""
BUSY_TURNS = 4
"""With so many under way, a turn that has patience waits."""
NOTEWORTHY_FAILURES = 3
"""Conflicts and short outages mend themselves; nobody needs to read of the first two."""


class UnfinishedError(ClusterError):
    """Not all that a turn was to do could be done.

    Args:
        cause: What is in its way.
        due: Seconds until the job needs another turn all the same, None if it does not.
    """

    def __init__(self, cause: ClusterError, due: float | None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.due = math.inf if due is None else due


Worker = Callable[[Key], Awaitable[float | None]]


class WorkQueue:
    """Hands keys to workers; a key that is added during its own turn gets another turn."""

    def __init__(self) -> None:
        self._ready: list[tuple[float, Key]] = []
        """A heap, with entries that have become more urgent since, and are here twice."""
        self._changed = asyncio.Semaphore(0)
        """Released whenever there may be a turn to take, for one worker to see whether there is."""
        self._waiting: dict[Key, float] = {}
        """By when each should have its turn."""
        self._empty = asyncio.Event()
        self._empty.set()
        self._working: dict[Key, float] = {}
        """When each turn that is under way began."""
        self._again: dict[Key, float] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._held: set[Key] = set()
        """Not to be worked on before their timer, whatever happens: the API server said so."""

    def add(self, key: Key, patience: float = 0.0) -> None:
        """Ask for a turn as soon as a worker is free.

        Args:
            key: Of the job.
            patience: Seconds for which others may go first.
        """
        self._add(key, time.monotonic() + patience)

    def _add(self, key: Key, due: float) -> None:
        if key in self._held:
            return
        if key in self._working:
            self._again[key] = min(due, self._again.get(key, due))
        elif due < self._waiting.get(key, math.inf):
            self._waiting[key] = due
            self._empty.clear()
            heapq.heappush(self._ready, (due, key))
            self._changed.release()

    async def add_last(self, key: Key) -> None:
        """Ask for a turn that is in no hurry: wait until no other key waits for a worker."""
        await self.nobody_waits()
        self.add(key)

    async def nobody_waits(self) -> None:
        """Return as soon as no key waits for a worker."""
        await self._empty.wait()

    def depth(self) -> int:
        """Return how many keys wait for a worker."""
        return len(self._waiting)

    def longest_turn(self) -> float:
        """Return the seconds of the turn that has been under way longest; 0 if none is."""
        return max((time.monotonic() - began for began in self._working.values()), default=0.0)

    async def work(self, worker: Worker) -> None:
        """Take turns for ever; run several of these side by side."""
        while True:
            await self._changed.acquire()
            key = self._next()
            if key is not None:
                await self._turn(key, worker)

    def _next(self) -> Key | None:
        """Take the key out whose turn it is, if it is anybody's, and have another worker look."""
        while self._ready:
            due, key = self._ready[0]
            waits = self._waiting.get(key) == due
            if waits and due > time.monotonic() and len(self._working) >= BUSY_TURNS:
                return None
            heapq.heappop(self._ready)
            if waits:
                self._changed.release()
                return key
        return None

    async def _turn(self, key: Key, worker: Worker) -> None:
        del self._waiting[key]
        if not self._waiting:
            self._empty.set()
        self._working[key] = began = time.monotonic()
        self._cancel_timer(key)
        result = "error"
        try:
            delay = await worker(key)
            result = "ok"
            self._failures.pop(key, None)
        except Exception as error:
            # Whatever went wrong with one job must not keep the others from their turns.
            delay = self._failed(key, error)
        finally:
            del self._working[key]
            self._changed.release()
            RECONCILE.labels(result).observe(time.monotonic() - began)
        if delay is not None:
            timer = asyncio.get_running_loop().call_later(delay, self._due, key)
            self._timers[key] = timer
        if key in self._again:
            self._add(key, self._again.pop(key))

    def _failed(self, key: Key, error: Exception) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 20), LONGEST_RETRY_SECONDS)
        if isinstance(error, UnfinishedError):
            delay, error = min(delay, error.due), error.cause
        if isinstance(error, ConflictError):
            delay = min(delay, LONGEST_CONFLICT_SECONDS)
        if isinstance(error, UnavailableError) and error.retry_after:
            delay = max(delay, error.retry_after)
            self._held.add(key)
        expected = isinstance(error, ClusterError)
        level = logging.DEBUG if failures < NOTEWORTHY_FAILURES else logging.WARNING
        log.log(
            level if expected else logging.ERROR,
            "turn failed",
            extra={"job": str(key), "error": repr(error), "retry_seconds": delay},
            exc_info=None if expected else error,
        )
        return delay

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._held.discard(key)
        self.add(key)

    def _cancel_timer(self, key: Key) -> None:
        with contextlib.suppress(KeyError):
            self._timers.pop(key).cancel()
