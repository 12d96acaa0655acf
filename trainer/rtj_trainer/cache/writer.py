"""Writes the blocks of a pipeline into shards, and goes on where a writer before it was killed."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.cache.folder import CacheFolder, Entry
from rtj_trainer.cache.telling import Teller
from rtj_trainer.errors import PermanentError
from rtj_trainer.position import Position
from rtj_trainer.preflight.refusal import refuse

SHARD_BYTES = 1 << 26
"""A shard ends with the block that makes it this large. Part of the key, and of each fingerprint:
where shards end decides what their digests are."""

_RECORD_OVERHEAD = 16

log = logging.getLogger(__name__)


class Writer:
    """Writes what is missing of a cache.

    Args:
        folder: Of the cache.
        blocks: Blocks of the whole pipeline; None if only the data can tell.
        before_shard: Called before each shard: makes room.
        teller: Is told of all that is written.
    """

    def __init__(
        self,
        folder: CacheFolder,
        blocks: int | None,
        before_shard: Callable[[], None],
        teller: Teller,
    ) -> None:
        self._folder = folder
        self._blocks = blocks
        self._before_shard = before_shard
        self._teller = teller

    def write(self, position: Position, entries: list[Entry]) -> list[Entry]:
        """Write the shards after `entries`, from where the position stands; return all.

        Raises:
            PermanentError: `PipelineNotResumable`: another writer of the same key wrote otherwise.
            OSError: the volume cannot be written.
        """
        entries = list(entries)
        while True:
            if (found := self._folder.manifest()) is not None:
                self._folder.remove_leftovers()
                return found
            entry = self.shard(position, self._left(entries))
            if entry is None:
                return self._folder.complete(entries)
            if self._left([*entries, entry]) != 0:
                self._keep_position(position, len(entries) + 1)
            if self._folder.add(len(entries), entry) != entry:
                what = f"two processes read other examples for shard {len(entries)} of its cache"
                instead = "depend on nothing but its parameters, and on data that stays as it is"
                refuse([f"{what} ({self._folder.root}); make datasetFunction {instead}"])
            entries.append(entry)
            self._teller.shard()
            log.info("shard %d is written, with %d examples", len(entries) - 1, entry.examples)

    def _left(self, entries: list[Entry]) -> int | None:
        if self._blocks is None:
            return None
        return self._blocks - sum(entry.blocks for entry in entries)

    def shard(self, position: Position, most: int | None, full: bool = True) -> Entry | None:
        """Write one shard from the position; None if there is nothing left.

        Args:
            position: Its next block is the first of the shard.
            most: Blocks that are left; None if only the data can tell.
            full: Whether to end it by its size, not only by `most`.
        """
        self._before_shard()
        path = self._folder.new_shard()
        size = examples = blocks = 0
        with _volume_errors(path), tf.io.TFRecordWriter(str(path)) as file:
            while blocks != most and not (full and size >= SHARD_BYTES):
                batch = position.next()
                if batch is None:
                    break
                records = batch.element.numpy().tolist()
                for record in records:
                    file.write(record)
                size += sum(len(record) + _RECORD_OVERHEAD for record in records)
                examples += len(records)
                blocks += 1
                self._teller.examples(len(records))
        if not blocks:
            path.unlink()
            return None
        digest, size = self._folder.finish_shard(path)
        return Entry(digest, size, examples, blocks)

    def _keep_position(self, position: Position, number: int) -> None:
        folder = self._folder.new_position()
        position.save(folder)
        self._folder.finish_position(folder, number)


def make_again(
    writer: Writer, position: Position, entries: list[Entry], damaged: list[int]
) -> None:
    """Write damaged shards again, reading the pipeline once from the first of them to the last.

    Args:
        writer: Of the cache.
        position: At the first block of the first damaged shard.
        entries: All of the cache.
        damaged: Numbers of shards, ascending.

    Raises:
        PermanentError: `PositionLost`: the pipeline does not give the same examples any more.
    """
    for number in range(damaged[0], damaged[-1] + 1):
        expected = entries[number]
        if number not in damaged:
            for _ in range(expected.blocks):
                position.next()
            continue
        found = writer.shard(position, expected.blocks, full=False)
        if found != expected:
            raise PermanentError(
                Reason.POSITION_LOST,
                f"shard {number} of the dataset's cache, {expected.file}, is damaged or gone, and "
                "making it again gave other examples: the data has changed, or this machine "
                "rounds differently from the one that wrote it. Put the data back as it was, let "
                "the job run on a machine of the same kind, or create it under a new name",
            )


@contextmanager
def _volume_errors(path: Path) -> Iterator[None]:
    """Tell errors of the file from those of the pipeline, which have other classes."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise OSError(f"{path} cannot be written: {error.message}") from error
