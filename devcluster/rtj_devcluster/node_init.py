"""The first process of a node: makes the namespaces a machine, then keeps its services running.

Runs as process 1 of fresh mount, PID, network, UTS and IPC namespaces (node.py
starts it so). All that a node leaves on a running system (mounts, the network
namespaces of its pods, their cables, every process) hangs on this one process,
and the kernel clears it away when the process dies. That makes a SIGKILL of it a
power cut, and leaves nothing to find and tidy after a crash.

What a real machine loses in a power cut is in tmpfs here; what it keeps lies in
the node's folder.
"""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rtj_devcluster.shell import run, wait_until

_RESTART_SECONDS = 1.0
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")


@dataclass(frozen=True)
class Machine:
    """What a node needs to know to start."""

    hostname: str
    address: str
    """With its prefix length, such as ``172.30.0.11/24``."""
    gateway: str
    routes: dict[str, str]
    """Network of another node's pods → that node's address."""
    disk: dict[str, str]
    """Folder of the node → where it lies on the host: what a power cut does not take."""
    services: dict[str, list[str]]
    """Name → command of containerd, kubelet and kube-proxy."""


KUBELET_WANTS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""Below /proc/sys: the kubelet sets what is otherwise, and ends where it cannot. So it is shown
these (the list is that of Kubernetes' `pkg/util/sysctl`)."""


def _mount(*arguments: str) -> None:
    run(["mount", *arguments])


def _arrange_mounts(machine: Machine) -> None:
    # Mounts made here reach the node's containers, and never the host.
    _mount("--make-rshared", "/")
    for volatile in ("/run", "/var/lib/cni"):
        Path(volatile).mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", "mode=755", "devcluster", volatile)
    for folder, source in machine.disk.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        _mount("--bind", source, folder)
    # These belong to the whole host, which stays as it is.
    for shared in ("/proc/sys/vm", "/proc/sys/kernel"):
        _mount("--bind", shared, shared)
        _mount("-o", "remount,bind,ro", shared)
    for name, value in KUBELET_WANTS.items():
        shown = Path("/run/sysctl", name)
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(f"{value}\n")
        _mount("--bind", str(shown), f"/proc/sys/{name}")


def _has_cable() -> bool:
    return any(name == "eth0" for _, name in socket.if_nameindex())


def _arrange_network(machine: Machine) -> None:
    wait_until(_has_cable, what="the node's network cable is plugged in", timeout=30, every=0.02)
    lines = [
        "link set lo up",
        f"address add {machine.address} dev eth0",
        "link set eth0 up",
        f"route add default via {machine.gateway}",
        *(f"route add {network} via {node}" for network, node in machine.routes.items()),
    ]
    run(["ip", "-batch", "-"], text_input="\n".join(lines) + "\n")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _containerd_listens() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(CONTAINERD_SOCKET)) == 0


class Services:
    """The node's daemons; one that ends is started again."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._running: dict[int, str] = {}

    def start(self, name: str) -> None:
        """Start one daemon."""
        with (Path("/var/log") / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self._machine.services[name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # From here on `supervise` reaps it; Popen must not.
        process.returncode = 0
        self._running[process.pid] = name

    def supervise(self) -> None:
        """Reap every process that lost its parent, and restart daemons, for ever."""
        while True:
            pid, _ = os.waitpid(-1, 0)
            name = self._running.pop(pid, None)
            if name is not None:
                time.sleep(_RESTART_SECONDS)
                self.start(name)


def main() -> None:
    """Start the node that the file in the first argument describes; never returns."""
    machine = Machine(**json.loads(Path(sys.argv[1]).read_text()))
    socket.sethostname(machine.hostname)
    _arrange_mounts(machine)
    _arrange_network(machine)
    services = Services(machine)
    services.start("containerd")
    wait_until(_containerd_listens, what="containerd listens", timeout=60, every=0.02)
    services.start("kubelet")
    services.start("kube-proxy")
    services.supervise()


if __name__ == "__main__":
    main()
