"""A real Kubernetes on one machine: what the command line and the tests steer.

    cluster = Cluster("mine")
    cluster.up(ClusterOptions(nodes=2))
    cluster.kill_node("node-1")
    cluster.add_node("node-1")
    cluster.down()

Every method first looks at what is there and does what is left to do, so a call
that was cut short, or a cluster whose processes were killed from outside, is
mended by calling again.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rtj_devcluster import (
    cgroups,
    image_store,
    kubebox,
    kubectl,
    network,
    packages,
    preflight,
    readiness,
    services,
    slots,
)
from rtj_devcluster.addresses import Addresses
from rtj_devcluster.cluster_state import ClusterOptions, ClusterState
from rtj_devcluster.control_plane import ControlPlane, ControlPlaneOptions, clear_abandoned
from rtj_devcluster.errors import CommandFailedError, DevClusterError, NoClusterError
from rtj_devcluster.node import Node
from rtj_devcluster.node_config import NodeFiles
from rtj_devcluster.paths import cluster_folder
from rtj_devcluster.pki import Pki
from rtj_devcluster.progress import stage
from rtj_devcluster.shell import tail

__all__ = ["DEFAULT_NAME", "Cluster", "ClusterOptions", "NodeStatus"]

DEFAULT_NAME = "dev"


@dataclass(frozen=True)
class NodeStatus:
    """One node, as this machine and as Kubernetes sees it."""

    name: str
    power: str
    """``on``, ``off`` or ``partitioned``."""
    ready: bool | None
    """The node's Ready condition; None where there is none, or nobody to say so."""


class Cluster:
    """One cluster by its name."""

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        self.name = name
        self.folder = cluster_folder(name)
        self._path = self.folder / "cluster.json"

    # What is there

    @property
    def exists(self) -> bool:
        """Whether anything of this cluster is there."""
        return slots.of_cluster(self.name) is not None

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of a cluster administrator; it holds its certificates, so it can be copied."""
        return self.folder / "kubeconfig"

    @property
    def node_names(self) -> list[str]:
        """Names of all nodes that are part of the cluster, switched on or off."""
        return sorted(self._state().nodes)

    @property
    def options(self) -> ClusterOptions:
        """What the cluster was made with, and the nodes that it has; the defaults where is none."""
        state = ClusterState.load(self._path)
        return replace(state.options, nodes=None) if state else ClusterOptions()

    def kubectl(self, *arguments: str, text_input: str | None = None) -> str:
        """Run kubectl as an administrator and return what it printed.

        Raises:
            CommandFailedError: it ended with an error; the message holds its words.
        """
        return kubectl.call(self.kubeconfig, *arguments, text_input=text_input)

    def get(self, *arguments: str) -> Any:
        """Return what ``kubectl get … -o json`` says."""
        return kubectl.get(self.kubeconfig, *arguments)

    @property
    def answers(self) -> bool:
        """Whether the API server does."""
        try:
            self.kubectl("get", "--raw=/readyz", "--request-timeout=5s")
        except CommandFailedError:
            return False
        return True

    def status(self) -> list[NodeStatus]:
        """Return the state of every node."""
        try:
            ready = readiness.last_said(self.kubeconfig)
        except CommandFailedError:
            ready = {}
        return [
            NodeStatus(name, _power(self._node(name)), self._is_ready(name, ready))
            for name in self.node_names
        ]

    @staticmethod
    def _is_ready(name: str, ready: dict[str, datetime | None]) -> bool | None:
        return ready[name] is not None if name in ready else None

    # Coming and going

    def up(self, options: ClusterOptions | None = None) -> None:
        """Bring the cluster up, or what of it is not; return when all nodes are Ready.

        Without options, those of an existing cluster and the nodes that it has, or the defaults.

        Raises:
            MissingRequirementError: this machine lacks something; nothing was changed, but that
                programs of the distribution may have been installed.
            DevClusterError: a part did not start; the message ends with its log.
        """
        preflight.check_rights()
        packages.ensure(packages.NODES)
        preflight.check_network()
        kubebox.binaries()
        clear_abandoned()
        with slots.locked(self.name):
            addresses = slots.take(self.name).addresses
            asked = options or self.options
            present = ClusterState.load(self._path) or self._new(asked)
            present.asked_for(asked).save(self._path)
            with stage(f"Start the control plane of {self.name!r}"):
                network.create_bridge(addresses)
                services.start(self._control_plane(), addresses)
            if names := self.node_names:
                with stage(f"Start {', '.join(names)}"):
                    self._start_nodes(names)

    def down(self) -> None:
        """Remove the cluster and all that it left on this machine, also after a crash.

        Raises:
            DevClusterError: a part does not go; the cluster stays known, to be taken down again.
        """
        with slots.locked(self.name):
            slot = slots.of_cluster(self.name)
            if slot is None:
                return
            with stage(f"Take {self.name!r} down"):
                nodes = [self._node(name) for name in self.node_names]
                self._control_plane().stop()
                for node in nodes:
                    node.kill()
                if shutil.which("ip"):
                    network.delete_bridge(slot.addresses)
                cgroups.remove(self._state().cgroup)
                shutil.rmtree(self.folder, ignore_errors=True)
                slots.give_back(self.name)

    # Images

    def sync_images(self) -> None:
        """Send every running node the images of the store that it lacks."""
        running = [node for name in self.node_names if (node := self._node(name)).running]
        _in_parallel(lambda node: image_store.provide(node.containerd_socket), running)

    # Nodes that fail

    def kill_node(self, name: str) -> None:
        """Cut a node's power: SIGKILL of everything on it. No API object is touched."""
        with self._held(name) as node:
            node.kill()

    def partition(self, name: str) -> None:
        """Cut a node's network: its pods go on, unseen by the cluster."""
        with self._held(name) as node:
            node.partition()

    def heal(self, name: str) -> None:
        """Mend a node's network."""
        with self._held(name) as node:
            node.heal()

    def drain(self, name: str, timeout_seconds: int = 120) -> None:
        """Cordon a node and evict its pods, as a maintenance does."""
        self._node(name)
        self.kubectl(
            *("drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--force"),
            f"--timeout={timeout_seconds}s",
        )

    def delete_node(self, name: str) -> None:
        """Take a node away as a cloud does: its machine ends and its Node object is deleted."""
        with slots.locked(self.name):
            self._node(name).destroy()
            self.kubectl("delete", "node", name, "--ignore-not-found", "--wait=false")
            self._state().without_node(name).save(self._path)

    def add_node(self, name: str | None = None) -> str:
        """Add a node, or bring one back: switched on, connected, schedulable. Return its name.

        Args:
            name: ``node-<number>``; None adds one with the lowest free number.
        """
        if name is None or name not in self._state().nodes:
            with slots.locked(self.name):
                state, name = self._state().with_node(name)
                state.save(self._path)
        with self._held(name) as node:
            self._start_nodes([name])
            node.heal()
            self.kubectl("uncordon", name)
        return name

    # How it is done

    @contextmanager
    def _held(self, name: str) -> Iterator[Node]:
        """Keep others from one node, and the cluster from going; other nodes can be held beside."""
        with slots.locked(self.name, shared=True), slots.locked(f"{self.name}.{name}"):
            yield self._node(name)

    def _state(self) -> ClusterState:
        state = ClusterState.load(self._path)
        if state is not None:
            return state
        if self.exists:  # Cut short before anything was started.
            return self._new(ClusterOptions())
        raise NoClusterError(self.name)

    def _new(self, options: ClusterOptions) -> ClusterState:
        return ClusterState(options, {}, cgroups.path_of(self.folder))

    def _addresses(self) -> Addresses:
        slot = slots.of_cluster(self.name)
        if slot is None:
            raise NoClusterError(self.name)
        return slot.addresses

    def _control_plane(self) -> ControlPlane:
        return ControlPlane(self.name, ControlPlaneOptions(self._state().options.audit))

    def _node(self, name: str) -> Node:
        state = self._state()
        if name not in state.nodes:
            known = ", ".join(sorted(state.nodes)) or "none"
            raise DevClusterError(f"{self.name!r} has no node {name!r}; its nodes: {known}")
        return Node(
            NodeFiles(
                name,
                state.nodes[name],
                self.folder / "nodes" / name,
                f"{state.cgroup}/{name}",
                self._addresses(),
                Pki(self.folder / "pki"),
                state.options.gpus_per_node,
                state.options.node_lease_seconds,
            )
        )

    def _start_nodes(self, names: list[str]) -> None:
        nodes = [self._node(name) for name in names]
        fresh = {node.name for node in nodes if not node.running}
        if any(node.record.exists() for node in nodes if node.name in fresh):
            # Nodes tell the time in whole seconds: begin one in which no dead node said a word.
            time.sleep(1 - time.time() % 1)
        began = datetime.fromtimestamp(int(time.time()), UTC)
        server = services.server(self._addresses())
        _in_parallel(lambda node: node.start(server), nodes)

        readiness.wait(
            self.kubeconfig,
            [node.name for node in nodes],
            said_since=dict.fromkeys(fresh, began),
            hint=lambda: "\n".join(
                tail(node.files.folder / "log" / "kubelet.log") for node in nodes
            ),
        )


def _power(node: Node) -> str:
    if not node.running:
        return "off"
    return "partitioned" if node.partitioned else "on"


def _in_parallel(action: Callable[[Node], None], nodes: list[Node]) -> None:
    if nodes:
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(action, nodes))
