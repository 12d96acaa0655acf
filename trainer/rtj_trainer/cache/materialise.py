"""From a job's configuration to a complete, verified cache: found, fetched, or written."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import tensorflow as tf
from rtj_api.dataset import DatasetCache, in_bytes
from rtj_api.launch import TrainerConfig
from rtj_api.names import Reason

from rtj_trainer import builder, files, fingerprint
from rtj_trainer.cache import eviction
from rtj_trainer.cache.examples import ExamplesFactory
from rtj_trainer.cache.folder import CacheFolder, Entry
from rtj_trainer.cache.key import kept_name, key_of
from rtj_trainer.cache.sharing import Sharing
from rtj_trainer.cache.source import Cached
from rtj_trainer.cache.stores import open_store
from rtj_trainer.cache.telling import Teller
from rtj_trainer.cache.uses import Use
from rtj_trainer.cache.writer import SHARD_BYTES, Writer, make_again
from rtj_trainer.commits.layout import CACHE, INDICES, TEMPORARY_PREFIX, JobDirectory
from rtj_trainer.data import IndexedContext
from rtj_trainer.errors import PermanentError, UserError
from rtj_trainer.heartbeat import Heart
from rtj_trainer.pipeline import dataset_function
from rtj_trainer.position.iterator import IteratorPosition
from rtj_trainer.position.streams import ReplayPosition
from rtj_trainer.preflight.doubt import settle
from rtj_trainer.preflight.graph import read_graph
from rtj_trainer.preflight.strategy import refuse_empty

_HASHING_THREADS = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Materialised:
    """The cache of a job, which is used until it is released."""

    source: Cached
    use: Use


def materialise(
    config: TrainerConfig, module: ModuleType, job: JobDirectory, heart: Heart, *, fresh: bool
) -> Materialised | None:
    """Return the job's cache, complete and verified; None if it has none.

    Args:
        config: Of the attempt.
        module: The builder.
        job: Its folder.
        heart: Is told of the progress.
        fresh: Whether nothing was trained yet, so that any cache of the pipeline will do.

    Raises:
        StopError: the builder is wrong or failed, its pipeline cannot be resumed exactly, or the
            volume cannot be written.
    """
    if config.cache is None:
        return None
    try:
        return _Materialiser(config, config.cache, module, job, heart).run(fresh)
    except OSError as error:
        raise UserError(
            Reason.VOLUME_UNUSABLE, f"the dataset's cache cannot be kept: {error}"
        ) from error


class _Materialiser:
    def __init__(
        self,
        config: TrainerConfig,
        cache: DatasetCache,
        module: ModuleType,
        job: JobDirectory,
        heart: Heart,
    ) -> None:
        self._config = config
        self._job = job
        self._limit = in_bytes(cache.max_size) if cache.max_size else None
        self._teller = Teller(heart)
        build = dataset_function(config.builder, module)
        self._factory = ExamplesFactory(build, config.seed, config.volume / INDICES)
        self._scratch = job.commits / f"{TEMPORARY_PREFIX}cache-{config.attempt:06d}"
        self._pipeline = self._factory.pipeline(False, self._scratch)
        source = fingerprint.of_source(builder.source_files(config.builder, module))
        params = config.builder.dataset_params
        graph = read_graph(self._factory.built)
        identity = self._pipeline.identity
        spec = self._factory.element_spec
        sampled = self._factory.sampled
        key = key_of(identity, graph, spec, params, source, job.root, sampled=sampled)
        self._root = config.volume / CACHE
        name = kept_name(key, job.root / "cache.json")
        self._folder = CacheFolder(self._root / name, config.job_uid)
        self._writer = Writer(
            self._folder,
            self._pipeline.strategy.batches_per_epoch,
            lambda: self._make_room(SHARD_BYTES),
            self._teller,
        )
        self._sharing = None
        if cache.url:
            self._sharing = Sharing(open_store(cache.url), self._folder, self._teller)

    def run(self, fresh: bool) -> Materialised:
        self._folder.create()
        use = Use(self._folder.root, self._config.job_uid)
        use.begin()
        entries, missing = self._complete(fresh)
        if self._sharing:
            self._sharing.publish(entries, missing)
        self._make_room(0)
        source = Cached(self._folder, entries, self._factory.element_spec)
        log.info("the dataset's cache has %d examples in %d shards", len(source), len(entries))
        return Materialised(source, use)

    def _dataset(self) -> Any:
        store = self._config.volume / INDICES
        return self._factory.dataset(IndexedContext(self._config.seed, store=store))

    def _complete(self, fresh: bool) -> tuple[list[Entry], list[Entry]]:
        """Return all shards, verified, and those of them that the store could not give."""
        entries = self._folder.manifest()
        if entries is None and self._sharing and (shared := self._sharing.manifest()):
            missing = self._mended_of_another(shared) if fresh else self._mend(shared)
            if missing is not None and self._folder.complete(shared) == shared:
                log.info("the dataset's cache %s is complete already elsewhere", self._folder.root)
                return shared, missing
        if entries is None:
            entries = self._write()
        else:
            log.info("the dataset's cache %s is complete already", self._folder.root)
        return entries, self._mend(entries)

    def _mended_of_another(self, entries: list[Entry]) -> list[Entry] | None:
        """Do as `_mend` does; None if a shard cannot be fetched and would be another here."""
        try:
            return self._mend(entries)
        except PermanentError as error:
            if error.reason is not Reason.POSITION_LOST:
                raise
            log.warning("the cache that is shared is not used, but written anew: %s", error)
            self._folder.discard(entries)
            return None

    def _write(self) -> list[Entry]:
        self._folder.remove_leftovers()
        entries = self._folder.entries()
        log.info(
            "writing the dataset's cache %s, from example %d on; position strategy: %s, because %s",
            self._folder.root,
            sum(entry.examples for entry in entries),
            self._pipeline.strategy.name,
            self._pipeline.strategy.why,
        )
        if not entries:
            self._pipeline = self._factory.pipeline(True, self._scratch)
            once = self._config.model_copy(update={"epochs": 1, "total_steps": None})
            depends_on = {**self._pipeline.identity, "cache": self._folder.root.name}
            settle(once, self._pipeline.unproven, depends_on, self._job.root / "preflight")
        entries = self._writer.write(self._position(entries), entries)
        return entries or refuse_empty()

    def _position(self, entries: list[Entry]) -> Any:
        """Return the pipeline's position after some shards."""
        position = self._pipeline.stream.position
        step = sum(entry.blocks for entry in entries)
        position.start(step)
        if not step or not isinstance(position, IteratorPosition):
            return position
        folder = self._folder.position(len(entries))
        try:
            position.restore(folder)
        except (tf.errors.OpError, AssertionError, ValueError) as error:
            log.warning("%s is damaged, so the data is read again up to it: %s", folder, error)
            return self._replayed(step)
        return position

    def _replayed(self, step: int) -> ReplayPosition:
        position = ReplayPosition(self._dataset(), 1)
        position.start(step)
        return position

    def _mend(self, entries: list[Entry]) -> list[Entry]:
        """Fetch or make again what does not verify; return what could not be fetched."""
        damaged = self._damaged(entries, list(range(len(entries))))
        if damaged and self._sharing:
            wanted = [entries[number] for number in damaged]
            self._sharing.fetch(wanted, self._make_room)
            damaged = self._damaged(entries, damaged)
        if damaged:
            for number in damaged:
                path = self._folder.shard(entries[number])
                log.warning("shard %d of the dataset's cache, %s, is made again", number, path)
            before = sum(entry.blocks for entry in entries[: damaged[0]])
            make_again(self._writer, self._replayed(before), entries, damaged)
        return [entries[number] for number in damaged]

    def _damaged(self, entries: list[Entry], numbers: list[int]) -> list[int]:
        """Return which of some shards are not what their names say; each byte is read."""

        def verified(number: int) -> bool:
            entry = entries[number]
            path = self._folder.shard(entry)
            try:
                good = files.sha256_of_file(path) == entry.sha256
            except FileNotFoundError:
                return False
            if not good:
                log.warning("shard %d of the dataset's cache, %s, is damaged", number, path)
            return good

        threads = min(_HASHING_THREADS, os.cpu_count() or 1)
        found = []
        with ThreadPoolExecutor(threads) as pool:
            for number, good in zip(numbers, pool.map(verified, numbers), strict=True):
                self._teller.examples(entries[number].examples)
                if not good:
                    found.append(number)
        return found

    def _make_room(self, incoming: int) -> None:
        if self._limit is not None:
            own = self._folder.root.name
            eviction.make_room(self._root, self._limit, own, incoming)
