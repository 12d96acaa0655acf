"""Installs, with apt-get, the programs from the distribution that are missing; and only those."""

import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from rtj_devcluster.errors import CommandFailedError, MissingRequirementError
from rtj_devcluster.progress import stage
from rtj_devcluster.shell import run
from rtj_devcluster.slots import locked

CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))

NODES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
}
"""Program → Debian package: what a node is made of."""

_LOCK_SECONDS = 300
"""How long to wait for an apt-get of somebody else, such as the daily one of the distribution."""
_LOCK_PERIOD_SECONDS = 1.0

IMAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}
"""Program → Debian package: what builds images."""


def cni_folder() -> Path | None:
    """Return the folder of the CNI plugins, if they are installed."""
    return next((folder for folder in CNI_FOLDERS if (folder / "bridge").exists()), None)


def _present(program: str) -> bool:
    if program.startswith("cni/"):
        return cni_folder() is not None
    return shutil.which(program) is not None


def _missing(programs: Iterable[str]) -> list[str]:
    return [program for program in programs if not _present(program)]


def ensure(programs: dict[str, str]) -> None:
    """Install what of ``programs`` (program → package) is missing.

    Raises:
        MissingRequirementError: something is missing and there is no apt-get, or what that
            installed is not where programs are looked for.
        CommandFailedError: apt-get failed.
    """
    if not _missing(programs):
        return
    with locked(".packages"):
        # Another process may have installed it while this one waited for the lock.
        missing = _missing(programs)
        if missing:
            _install(missing, sorted({programs[program] for program in missing}))


def _install(missing: list[str], packages: list[str]) -> None:
    if not shutil.which("apt-get"):
        raise MissingRequirementError(
            f"these programs are missing: {', '.join(missing)}. Install them with this system's "
            "package manager; only apt-get is used automatically"
        )
    with stage(f"Install {', '.join(packages)}"):
        _update()
        _apt("install", "--yes", "--no-install-recommends", *packages)
    still = _missing(missing)
    if still:
        raise MissingRequirementError(
            f"apt-get installed {', '.join(packages)}, but these programs are not found: "
            f"{', '.join(still)}. Put their folder on the PATH (plugins, as cni/bridge: into "
            f"{' or '.join(map(str, CNI_FOLDERS))})"
        )


def _update() -> None:
    """Fetch the lists of packages; for their lock, apt-get itself waits not at all."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            _apt("update")
        except CommandFailedError as error:
            if "Could not get lock" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_LOCK_PERIOD_SECONDS)
        else:
            return


def _apt(*arguments: str) -> None:
    # Its words are looked at, so they must be English.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    apt = ["apt-get", "-qq", "-o", f"DPkg::Lock::Timeout={_LOCK_SECONDS}"]
    run([*apt, *arguments], env=environment)
