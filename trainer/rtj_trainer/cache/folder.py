"""Names and durable steps of one cache on the volume; see the package for the protocol."""

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rtj_trainer import files
from rtj_trainer.commits.sealed import seal, unseal

_ENTRY = re.compile(r"^(\d{6})\.json$")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Entry:
    """One finished shard."""

    sha256: str
    size: int
    """Bytes of the file."""
    examples: int
    blocks: int
    """What it took of the pipeline, whose elements are blocks of examples."""

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.sha256}.tfrecord"


class CacheFolder:
    """The folder of one cache.

    Args:
        root: `<volume>/cache/<key>`.
        writer: Names this job among all that may write.
    """

    def __init__(self, root: Path, writer: str) -> None:
        self.root = root
        self._writer = writer

    @property
    def shards(self) -> Path:
        """Folder of the shards."""
        return self.root / "shards"

    @property
    def indices(self) -> Path:
        """Folder for `rtj_trainer.data.store`."""
        return self.root / "indices"

    def create(self) -> None:
        """Make the folders, durably."""
        for name in ("shards", "entries", "positions", "uses"):
            files.make_directory(self.root / name)

    def shard(self, entry: Entry) -> Path:
        """Return the path of a shard, whether it is there or not."""
        return self.shards / entry.file

    def new_shard(self) -> Path:
        """Return a private path for a shard in the making."""
        return self.shards / f".{self._writer}.{os.urandom(4).hex()}"

    def finish_shard(self, written: Path) -> tuple[str, int]:
        """Make a written file durable under the name of its content; return sha256 and size."""
        files.fsync_file(written)
        digest, size = files.sha256_of_file(written), written.stat().st_size
        written.replace(self.shards / f"{digest}.tfrecord")
        files.fsync_directory(self.shards)
        return digest, size

    def entries(self) -> list[Entry]:
        """Return the finished shards from number 0 on, as far as there is no gap.

        A damaged entry ends them: what is after it is written again.
        """
        found: list[Entry] = []
        for there in sorted(self._entries.iterdir()):
            if not _ENTRY.match(there.name):
                continue
            path = self._entry(len(found))
            if path != there:
                break
            try:
                found.append(_read_entry(path))
            except (ValueError, TypeError, KeyError):
                path.unlink(missing_ok=True)
                break
        return found

    def add(self, number: int, entry: Entry) -> Entry:
        """Create an entry; return the one that is there, of this writer or of one before it."""
        path = self._entry(number)
        if files.create_exclusively(path, seal({"shard": asdict(entry)})):
            return entry
        return _read_entry(path)

    def _entry(self, number: int) -> Path:
        return self._entries / f"{number:06d}.json"

    @property
    def _entries(self) -> Path:
        return self.root / "entries"

    def position(self, number: int) -> Path:
        """Return the folder with the pipeline's state before a shard; it need not be there."""
        return self.root / "positions" / f"{number:06d}"

    def new_position(self) -> Path:
        """Make a private folder for a position."""
        folder = self.root / "positions" / f".{self._writer}.{os.urandom(4).hex()}"
        folder.mkdir()
        return folder

    def finish_position(self, written: Path, number: int) -> None:
        """Make a position durable under its number, and remove those that no entry leads to.

        The one before is needed until the entry between them is there.
        """
        for path in written.iterdir():
            files.fsync_file(path)
        files.fsync_directory(written)
        try:
            files.rename_directory(written, self.position(number))
        except OSError:  # Another writer's is there, and says the same.
            shutil.rmtree(written, ignore_errors=True)
        for path in (self.root / "positions").iterdir():
            if path.name < f"{number - 1:06d}" and (path.name[0] != "." or self._is_mine(path)):
                shutil.rmtree(path, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Remove what earlier attempts of this job left unfinished."""
        for name in ("shards", "positions"):
            for path in (self.root / name).iterdir():
                if self._is_mine(path):
                    _remove(path)

    def _is_mine(self, path: Path) -> bool:
        return path.name.startswith(f".{self._writer}.")

    def discard(self, entries: Iterable[Entry]) -> None:
        """Remove shards that no entry of this cache names: they would take room for nothing."""
        kept = {entry.file for entry in self.entries()}
        for entry in entries:
            if entry.file not in kept:
                self.shard(entry).unlink(missing_ok=True)

    def complete(self, entries: Iterable[Entry]) -> list[Entry]:
        """Write the manifest; return the entries that it has, of this writer or of another."""
        files.create_exclusively(self.root / MANIFEST, write_manifest(entries))
        # Not what other writers are writing: each sees the manifest after its shard, and ends.
        for path in (self.root / "positions").glob("[0-9]*"):
            shutil.rmtree(path, ignore_errors=True)
        found = self.manifest()
        if found is None:
            raise FileNotFoundError(f"{self.root / MANIFEST} was removed while it was written")
        return found

    def manifest(self) -> list[Entry] | None:
        """Return all shards of a complete cache, or None; a damaged manifest is removed."""
        path = self.root / MANIFEST
        try:
            return read_manifest(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            path.unlink(missing_ok=True)
            return None


def read_manifest(content: bytes) -> list[Entry]:
    """Return the shards that a manifest lists.

    Raises:
        ValueError: it is damaged.
    """
    return [Entry(**entry) for entry in unseal(content)["shards"]]


def write_manifest(entries: Iterable[Entry]) -> bytes:
    """Return the manifest of a complete cache: the same bytes for the same shards."""
    return seal({"shards": [asdict(entry) for entry in entries]})


def _read_entry(path: Path) -> Entry:
    return Entry(**unseal(path.read_bytes())["shard"])


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
