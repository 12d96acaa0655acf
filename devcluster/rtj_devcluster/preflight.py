"""Says what this machine lacks for a dev cluster before anything on it is changed.

Only the network's check comes after programs that were missing are installed: it runs two of them.
Every check runs inside throwaway namespaces, so it leaves nothing behind.
"""

import os
import tempfile
from pathlib import Path

from rtj_devcluster import cgroups
from rtj_devcluster.errors import MissingRequirementError
from rtj_devcluster.paths import STATE_VARIABLE, state_root
from rtj_devcluster.shell import run

_HIDDEN_IN_NODES = tuple(
    map(Path, ("/run", "/var/run", "/var/log", "/var/lib/cni", "/var/lib/kubelet"))
)
_OVERLAY = (
    'cd "$1" && mkdir lower upper work merged && '
    "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged"
)
_NETWORK = (
    "ip link add probe0 type bridge && ip link add probe1 type veth peer name probe2 && "
    "iptables -t nat -A POSTROUTING -m comment --comment probe -j MASQUERADE"
)


def check_rights() -> None:
    """Check what only the machine's owner can give: root, cgroups, namespaces, overlayfs.

    Raises:
        MissingRequirementError: names what is missing and how it can be had.
    """
    if os.geteuid() != 0:
        raise MissingRequirementError(
            "the dev cluster needs root, since its nodes have their own network and mounts: "
            "run it with sudo, or in a virtual machine"
        )
    missing = cgroups.missing_controllers()
    if missing:
        raise MissingRequirementError(
            f"these cgroup controllers are not usable: {', '.join(missing)}. Mount them under "
            "/sys/fs/cgroup (in a container: run it privileged, with the host's cgroup namespace)"
        )
    _check_namespaces()
    _check_state_folder()


def check_network() -> None:
    """Check that bridges, virtual cables and address translation work here.

    Raises:
        MissingRequirementError: names the kernel modules that are needed.
    """
    tried = run(["unshare", "--net", "sh", "-c", _NETWORK], check=False)
    if tried.returncode != 0:
        raise MissingRequirementError(
            "this kernel cannot make a node's network: it needs the modules bridge, veth, "
            f"nf_nat, xt_comment and xt_MASQUERADE\n{tried.stderr.strip()}"
        )


def _check_namespaces() -> None:
    kinds = ["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--mount-proc"]
    tried = run(["unshare", *kinds, "true"], check=False)
    if tried.returncode != 0:
        raise MissingRequirementError(
            "namespaces cannot be made here, but every node is a set of them: this needs "
            f"CAP_SYS_ADMIN (in a container: run it privileged)\n{tried.stderr.strip()}"
        )


def _check_state_folder() -> None:
    root = state_root()
    for hidden in _HIDDEN_IN_NODES:
        if root.is_relative_to(hidden):
            raise MissingRequirementError(
                f"the state folder {root} is under {hidden}, which every node has for itself: "
                f"set {STATE_VARIABLE} to another place"
            )
    existing = next(parent for parent in (root, *root.parents) if parent.is_dir())
    with tempfile.TemporaryDirectory(dir=existing, prefix=".rtj-preflight-") as folder:
        command = ["unshare", "--mount", "sh", "-c", _OVERLAY, "sh", folder]
        tried = run(command, check=False)
    if tried.returncode != 0:
        raise MissingRequirementError(
            f"containers need overlayfs, which does not work on the file system of {root}: "
            f"set {STATE_VARIABLE} to a folder on a local disk (ext4, xfs, btrfs)\n"
            f"{tried.stderr.strip()}"
        )
