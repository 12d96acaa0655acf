"""Shards that other claims have: fetched instead of made, and published once they are made.

A store that is away, slow or damaged costs time and nothing else: what cannot be fetched whole is
made, and what cannot be published is left to the next attempt.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rtj_trainer.cache.folder import MANIFEST, CacheFolder, Entry, read_manifest, write_manifest
from rtj_trainer.cache.stores import FolderStore, Store
from rtj_trainer.cache.telling import Teller
from rtj_trainer.errors import StopError

log = logging.getLogger(__name__)


class Sharing:
    """One cache in a store.

    Args:
        store: What other claims see.
        folder: The cache on this claim.
        teller: Is told of each shard that the store was asked for, or given.
    """

    def __init__(self, store: Store, folder: CacheFolder, teller: Teller) -> None:
        self._store = store
        self._folder = folder
        self._local = FolderStore(folder.shards)
        self._teller = teller

    def manifest(self) -> list[Entry] | None:
        """Return all shards of a cache that somebody else completed, or None."""
        found = None
        with _tolerated("the cache cannot be looked for"):
            if content := self._store.read(self._name(MANIFEST)):
                found = read_manifest(content)
        return found

    def fetch(self, entries: list[Entry], make_room: Callable[[int], None]) -> None:
        """Copy what there is of some shards to this claim.

        A store that fails once is not asked for the others: each could take as long to fail, and
        all together longer than a trainer may take to start.

        Args:
            entries: The shards.
            make_room: Called before each is written, with its bytes.

        Raises:
            OSError: the claim cannot be written.
        """
        for entry in entries:
            answered, content = False, None
            with _tolerated(f"{entry.file} cannot be fetched, so no shard is fetched any more"):
                content = self._store.read(self._name(entry.file))
                answered = True
            self._teller.examples(entry.examples)
            if not answered:
                return
            if content is None:
                continue
            if hashlib.sha256(content).hexdigest() != entry.sha256:
                log.warning("%s is damaged where shards are shared; it is not used", entry.file)
                continue
            make_room(entry.size)
            self._local.write(entry.file, content)

    def publish(self, entries: list[Entry], damaged: list[Entry]) -> None:
        """Copy a complete cache to the store, the manifest last.

        Args:
            entries: All of the cache.
            damaged: Those that the store could not give, and is given in any case.
        """
        with _tolerated("the cache cannot be shared"):
            known = self._store.read(self._name(MANIFEST)) == write_manifest(entries)
            for entry in damaged if known else entries:
                name = self._name(entry.file)
                if entry in damaged or self._store.size(name) != entry.size:
                    self._store.write(name, self._folder.shard(entry).read_bytes())
                self._teller.examples(entry.examples)
            if not known:
                self._store.write(self._name(MANIFEST), write_manifest(entries))

    def _name(self, file: str) -> str:
        return f"{self._folder.root.name}/{file}"


@contextmanager
def _tolerated(what: str) -> Iterator[None]:
    try:
        yield
    except StopError:
        raise
    except Exception as error:  # each file system of fsspec raises its own kinds
        log.warning("%s: %s: %s", what, type(error).__name__, str(error)[:400])
