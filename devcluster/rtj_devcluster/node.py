"""One node of the cluster: a machine made of namespaces, which can die as a machine dies."""

import contextlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from rtj_devcluster import cgroups, image_store, network, processes
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.node_config import NodeFiles
from rtj_devcluster.node_init import CONTAINERD_SOCKET
from rtj_devcluster.processes import Process
from rtj_devcluster.shell import tail, wait_until

_UNSHARE = ("--mount", "--pid", "--net", "--uts", "--ipc", "--mount-proc", "--propagation", "slave")
_CONTAINERD_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Node:
    """Starts, kills and disconnects one node."""

    files: NodeFiles

    @property
    def name(self) -> str:
        """The node's name in Kubernetes."""
        return self.files.name

    @property
    def record(self) -> Path:
        """The file that names the node's process."""
        return self.files.folder / "node.json"

    @property
    def running(self) -> bool:
        """Whether the node is switched on."""
        return processes.recorded(self.record) is not None

    @property
    def partitioned(self) -> bool:
        """Whether the node's cable is cut."""
        return network.is_cut(self.files.addresses, self.files.index)

    def start(self, server: str) -> None:
        """Switch the node on, unless it is on, and return when it can take images.

        Raises:
            DevClusterError: containerd does not answer; the message ends with the node's log.
        """
        keeper = processes.recorded(self.record)
        if keeper is None:
            machine = self.files.write(server)
            image_store.seed(self.files.containerd_root)
            self._clear()  # What a node that was killed from outside left.
            keeper = self._switch_on(machine)
        cgroups.create(self.files.cgroup)
        process_1 = self._process_1(keeper)
        network.plug_in(self.files.addresses, self.files.index, process_1.pid)
        wait_until(
            lambda: self._socket_of(process_1).exists(),
            what=f"{self.name} runs containerd",
            timeout=_CONTAINERD_TIMEOUT_SECONDS,
            every=0.05,
            hint=self._words,
        )
        image_store.provide(self._socket_of(process_1))

    def _switch_on(self, machine: Path) -> Process:
        # --kill-child: the kernel kills process 1, and so the node, when its keeper is killed.
        unshare = ["unshare", *_UNSHARE, "--fork", "--kill-child"]
        return processes.start(
            self.record,
            [*unshare, sys.executable, "-m", "rtj_devcluster.node_init", str(machine)],
            log=self.files.folder / "log" / "init.log",
        )

    def _words(self) -> str:
        folder = self.files.folder / "log"
        return tail(folder / "init.log") + tail(folder / "containerd.log")

    def _process_1(self, keeper: Process) -> Process:
        """Return the node's process 1, waiting until its keeper has made it."""
        found: list[Process] = []

        def look() -> bool:
            if not keeper.alive():
                raise DevClusterError(f"{self.name} ended while it started\n{self._words()}")
            found.extend(_children(keeper))
            return bool(found)

        wait_until(look, what=f"{self.name} has a first process", timeout=30, every=0.01)
        return found[0]

    @staticmethod
    def _socket_of(process_1: Process) -> Path:
        return Path(f"/proc/{process_1.pid}/root/{CONTAINERD_SOCKET}")

    @property
    def containerd_socket(self) -> Path:
        """The node's containerd, as the host reaches it; the node must run."""
        keeper = processes.recorded(self.record)
        if keeper is None:
            raise DevClusterError(f"{self.name} is switched off: bring it back with add-node")
        return self._socket_of(self._process_1(keeper))

    def kill(self) -> None:
        """Cut the power: every process of the node is gone when this returns."""
        keeper = processes.recorded(self.record)
        if keeper is not None:
            # Process 1 goes first and last: the kernel ends it when all others in the node have.
            processes.kill([*_children(keeper), keeper])
        self._clear()

    def _clear(self) -> None:
        network.unplug(self.files.addresses, self.files.index)
        cgroups.remove(self.files.cgroup)

    def destroy(self) -> None:
        """Kill the node and throw its disk away."""
        self.kill()
        shutil.rmtree(self.files.folder, ignore_errors=True)

    def partition(self) -> None:
        """Cut the node's cable: its pods go on, unseen."""
        self._must_run()
        network.cut(self.files.addresses, self.files.index)

    def heal(self) -> None:
        """Mend the node's cable."""
        self._must_run()
        network.mend(self.files.addresses, self.files.index)

    def _must_run(self) -> None:
        if not self.running:
            raise DevClusterError(f"{self.name} is switched off: bring it back with add-node")


def _children(process: Process) -> list[Process]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pids: list[str] = []
    with contextlib.suppress(OSError):
        pids = path.read_text().split()
    return [child for pid in pids if (child := Process.of_pid(int(pid)))]
