"""Where shards are kept whole by their names: a folder, Redis, or any file system of fsspec."""

import os
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from rtj_api.names import Reason

from rtj_trainer import files
from rtj_trainer.errors import PermanentError

_SECONDS = 30
"""What a server may take for one answer."""


class Store(Protocol):
    """Keeps contents under names such as `<key>/<sha256>.tfrecord`, which never change."""

    def read(self, name: str) -> bytes | None:
        """Return a content, or None if there is none; whoever reads it compares its digest."""

    def size(self, name: str) -> int | None:
        """Return the bytes of a content, or None if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Keep a content, over what was there."""


class FolderStore:
    """A folder, as on the claim: what is written is durable, and there as a whole or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes | None:
        """Return a content, or None if there is none. Raises OSError."""
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    def size(self, name: str) -> int | None:
        """Return the bytes of a content, or None if there is none. Raises OSError."""
        try:
            return (self._root / name).stat().st_size
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Keep a content. Raises OSError."""
        path = self._root / name
        files.make_directory(path.parent)
        try:
            files.replace_file(path, content)
        except FileNotFoundError:
            if not path.exists():  # Else another process wrote the same content at the same time.
                raise


class RedisStore:
    """Keys `rtj:cache:<name>` of a Redis server; how much it keeps is its `maxmemory`'s affair."""

    def __init__(self, url: str) -> None:
        import redis

        self._client: Any = redis.Redis.from_url(
            url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS
        )

    def read(self, name: str) -> bytes | None:
        """Return a content, or None if there is none. Raises redis.RedisError."""
        found: bytes | None = self._client.get(_key(name))
        return found

    def size(self, name: str) -> int | None:
        """Return the bytes of a content, or None if there is none. Raises redis.RedisError."""
        return int(self._client.strlen(_key(name))) or None

    def write(self, name: str, content: bytes) -> None:
        """Keep a content. Raises redis.RedisError."""
        self._client.set(_key(name), content)


def _key(name: str) -> str:
    return f"rtj:cache:{name}"


class FsspecStore:
    """A folder of any file system that fsspec knows, as `s3://bucket/folder`."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self._files, self._root = url_to_fs(url)

    def read(self, name: str) -> bytes | None:
        """Return a content, or None if there is none. Raises what the file system raises."""
        try:
            content: bytes = self._files.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return content

    def size(self, name: str) -> int | None:
        """Return the bytes of a content, or None if there is none."""
        try:
            return int(self._files.info(self._path(name))["size"])
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Keep a content. Raises what the file system raises."""
        path = self._path(name)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, content)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def open_store(url: str) -> Store:
    """Return the store that `spec.dataset.cache.url` names; nothing is asked of it yet.

    Raises:
        PermanentError: `InvalidSpec`: there is no such kind of URL, or its package is missing.
    """
    expanded = os.path.expandvars(url)
    try:
        if urlsplit(expanded).scheme in ("redis", "rediss", "unix"):
            return RedisStore(expanded)
        return FsspecStore(expanded)
    except (ValueError, ImportError) as error:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"spec.dataset.cache.url {url!r}: {error}; the image (spec.trainer.image) needs the "
            "package of that kind of URL",
        ) from error
