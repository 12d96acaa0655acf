"""A complete cache as a source of examples, read at any place."""

import hashlib
from typing import Any

import numpy as np

from rtj_trainer.cache.elements import Decoder
from rtj_trainer.cache.folder import CacheFolder, Entry
from rtj_trainer.data.indexing import IndexedContext, indexed_context
from rtj_trainer.data.source import Source
from rtj_trainer.data.tfrecord import tfrecords


class Cached(Source):
    """The examples of a cache, in the order in which the pipeline gave them.

    Args:
        folder: Of the cache.
        entries: All of its shards, verified.
        spec: Of one example.
    """

    def __init__(self, folder: CacheFolder, entries: list[Entry], spec: Any) -> None:
        self._spec = spec
        self._decoder = Decoder(spec)
        self._digest = hashlib.sha256(" ".join(e.sha256 for e in entries).encode()).hexdigest()
        # The indices are evicted with the shards.
        with indexed_context(IndexedContext(seed=0, store=folder.indices)):
            self._records = tfrecords([folder.shard(entry) for entry in entries])

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._records)

    @property
    def signature(self) -> Any:
        """Of one example, as the builder's pipeline has it."""
        return self._spec

    @property
    def contents(self) -> dict[str, str]:
        """A digest of all shards: the same for caches with the same examples, wherever they are."""
        return {"cache": f"{len(self)} examples, {self._digest[:16]}"}

    def read(self, places: np.ndarray) -> list[np.ndarray]:
        """Return the examples at some places, batched.

        Raises:
            OSError: a shard cannot be read.
            ValueError: examples have shapes that do not fit together.
        """
        return self._decoder.batch(self._records.read(places)[0].tolist())
