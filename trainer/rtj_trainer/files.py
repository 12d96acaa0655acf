"""Durable file operations: what POSIX promises after a crash, and nothing more.

A file is on disk when it was fsynced *and* the directory that names it was fsynced. Every write of
the commit protocol goes through these functions, so a test can kill a process at each of them.
"""

import errno
import hashlib
import os
from pathlib import Path

_CHUNK = 1 << 20


def fsync_file(path: Path) -> None:
    """Flush one file's data and size to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable: what was created in it, renamed, removed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory, with its parents, durably. One that exists is fine."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    fsync_directory(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file and fsync it; its name is durable only after the directory was fsynced too."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def create_exclusively(path: Path, content: bytes) -> bool:
    """Create a complete, durable file, or return False if the name was taken.

    The content is written under a private name first and then hard-linked: `link` fails if the
    target exists, on local file systems and on NFS, and no reader ever sees half of the content.
    Over NFS the answer may get lost and the call be sent again, which then finds its own link; so
    it is the number of links that tells.
    """
    private = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    write_file(private, content)
    try:
        os.link(private, path)
    except FileExistsError:
        if private.stat().st_nlink != 2:  # itself, and the one that was asked for
            return False
    finally:
        private.unlink(missing_ok=True)
    fsync_directory(path.parent)
    return True


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole under its name, durably, over what was there.

    Raises:
        OSError: it cannot be written; or another process writes the same file, and finishes it.
    """
    for leftover in path.parent.glob(f".{path.name}.*"):  # of a writer that was killed
        leftover.unlink(missing_ok=True)
    private = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    write_file(private, content)
    private.replace(path)
    fsync_directory(path.parent)


def rename_directory(source: Path, target: Path) -> None:
    """Give a directory its final name, durably.

    Raises:
        OSError: the target exists and is not empty, or the source is gone.
    """
    source.rename(target)
    fsync_directory(target.parent)


def sha256_of_file(path: Path) -> str:
    """Return the hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def explain(error: OSError) -> str:
    """Return what is wrong with the volume, for a user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return f"the volume is full ({error}); free space or enlarge the claim"
    return f"the volume cannot be written ({error})"
