"""Installs, with apt-get, the programs from the distribution that are missing; and only those."""

import os
import shutil
from pathlib import Path

from rtj_devcluster.errors import MissingRequirementError
from rtj_devcluster.progress import stage
from rtj_devcluster.shell import run

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
"""How long to wait for another apt-get, such as that of a cluster which is brought up beside."""

IMAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}
"""Program → Debian package: what builds images."""


def cni_folder() -> Path | None:
    """Return the folder of the CNI plugins, if they are installed."""
    return next((folder for folder in CNI_FOLDERS if (folder / "bridge").exists()), None)


def _present(program: str) -> bool:
    if program.startswith("cni/"):
        return cni_folder() is not None
    return shutil.which(program) is not None


def ensure(programs: dict[str, str]) -> None:
    """Install what of ``programs`` (program → package) is missing.

    Raises:
        MissingRequirementError: something is missing and there is no apt-get.
        CommandFailedError: apt-get failed.
    """
    missing = [program for program in programs if not _present(program)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise MissingRequirementError(
            f"these programs are missing: {', '.join(missing)}. Install them with this system's "
            "package manager; only apt-get is used automatically"
        )
    packages = sorted({programs[program] for program in missing})
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", f"DPkg::Lock::Timeout={_LOCK_SECONDS}"]
    with stage(f"Install {', '.join(packages)}"):
        run([*apt, "update"], env=environment)
        run([*apt, "install", "--yes", "--no-install-recommends", *packages], env=environment)
