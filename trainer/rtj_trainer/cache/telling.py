"""Tells the heart how far the cache is, so that long work is not taken for a hang."""

import time

from rtj_api.heartbeat import CacheProgress

from rtj_trainer.heartbeat import Heart

_SECONDS = 5.0


class Teller:
    """Counts examples and shards, and tells of them now and then."""

    def __init__(self, heart: Heart) -> None:
        self._heart = heart
        self._examples = 0
        self._shards = 0
        self._due = time.monotonic() + _SECONDS

    def examples(self, count: int) -> None:
        """Note examples that were written, verified, asked for or published.

        Raises:
            SupersededError: a newer attempt holds the Lease.
        """
        self._examples += count
        self._heart.check_superseded()
        if time.monotonic() >= self._due:
            self._tell()

    def shard(self) -> None:
        """Note a shard that is durable now: the next attempt need not write it again."""
        self._shards += 1
        self._tell()

    def _tell(self) -> None:
        self._due = time.monotonic() + _SECONDS
        self._heart.report(cache=CacheProgress(examples=self._examples, shards=self._shards))
