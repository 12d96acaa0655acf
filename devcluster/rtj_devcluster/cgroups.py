"""The cgroup that each node's pods live under, in cgroup v1 and v2.

v1 has one hierarchy per controller, v2 one for all. A node's cgroup has the same
path in each: ``/rtj-<cluster>-<its state folder>/<node>``.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from rtj_devcluster.shell import wait_until

ROOT = Path("/sys/fs/cgroup")
_NEEDED = ("cpu", "cpuset", "memory", "pids")
_NEEDED_V1 = (*_NEEDED, "cpuacct", "devices", "freezer")
_DELEGATED = (*_NEEDED, "hugetlb")
"""A kubelet on cgroup v2 ends unless its cgroup has each of these that the kernel has."""
_REMOVE_TIMEOUT_SECONDS = 60.0


def unified() -> bool:
    """Say whether this machine has cgroup v2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def missing_controllers() -> list[str]:
    """Return the controllers that a node needs and that cannot be used here."""
    if unified():
        present = (ROOT / "cgroup.controllers").read_text().split()
        return [name for name in _NEEDED if name not in present]
    return [name for name in _NEEDED_V1 if not os.access(ROOT / name / "cgroup.procs", os.W_OK)]


def path_of(folder: Path) -> str:
    """Return the path, inside a hierarchy, of the cgroup of all nodes of a cluster.

    Args:
        folder: The cluster's state folder. One of the same name elsewhere is another cluster.
    """
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]
    return f"/rtj-{folder.name}-{place}"


def _hierarchies() -> list[Path]:
    if unified():
        return [ROOT]
    return [path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()]


def create(path: str) -> None:
    """Make a cgroup in every hierarchy, ready to have children with limits."""
    for hierarchy in _hierarchies():
        folder = hierarchy
        for part in Path(path.lstrip("/")).parts:
            if unified():
                _delegate(folder)
            parent, folder = folder, folder / part
            folder.mkdir(exist_ok=True)
            _inherit_cpuset(parent, folder)
        if unified():
            _delegate(folder)


def _delegate(folder: Path) -> None:
    present = (ROOT / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in _DELEGATED if name in present)
    (folder / "cgroup.subtree_control").write_text(wanted)


def _inherit_cpuset(parent: Path, folder: Path) -> None:
    """A v1 cpuset starts empty and takes no process until it is filled."""
    if unified():
        return
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (folder / name).exists() and not (folder / name).read_text().strip():
            (folder / name).write_text((parent / name).read_text())


def remove(path: str) -> None:
    """Remove a cgroup and all below it from every hierarchy; its processes must have ended.

    Raises:
        DevClusterError: it is still there after a minute; the message names its folders.
    """
    # The kernel lets go of a cgroup a moment after its last process.
    wait_until(
        lambda: not _left_of(path),
        what=f"the cgroup {path} goes, in which no process should be left",
        timeout=_REMOVE_TIMEOUT_SECONDS,
        every=0.05,
        hint=lambda: "\n".join(map(str, _left_of(path))),
    )


def _left_of(path: str) -> list[Path]:
    """Return the folders of a cgroup that cannot be removed; the others are removed."""
    tops = [hierarchy / path.lstrip("/") for hierarchy in _hierarchies()]
    for top in tops:
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
    return [top for top in tops if top.exists()]
