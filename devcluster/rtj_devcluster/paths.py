"""Where things lie: what one cluster is made of, and what all clusters share.

``state_root()`` holds one folder per cluster, removed by ``down``, and beside
them what must lie on the same file system (the image store, whose files the
nodes share as hard links). ``cache_root()`` holds only what can be made again.
"""

import os
import re
from pathlib import Path

from rtj_devcluster.errors import DevClusterError

STATE_VARIABLE = "RTJ_DEVCLUSTER_STATE"


def _xdg(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default) / "rtj-devcluster"


def cache_root() -> Path:
    """Return the user's cache folder for built binaries and image layers."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state_root() -> Path:
    """Return the folder of all clusters; ``RTJ_DEVCLUSTER_STATE`` overrides the default."""
    override = os.environ.get(STATE_VARIABLE)
    return Path(override).absolute() if override else _xdg("XDG_STATE_HOME", ".local/state")


def cluster_folder(name: str) -> Path:
    """Return the state folder of one cluster.

    Raises:
        DevClusterError: the name is not one that can be part of names of nodes and cgroups.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise DevClusterError(
            f"cluster name {name!r}: use up to 32 lower-case letters, digits and dashes"
        )
    return state_root() / name


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader, a kill or a power cut leaves the old text or the new whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(mode)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
