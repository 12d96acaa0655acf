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

import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rtj_devcluster import (
    cgroups,
    image_store,
    kubebox,
    manifests,
    network,
    packages,
    preflight,
    processes,
    slots,
)
from rtj_devcluster.addresses import API_SERVER_PORT, MAX_NODES, SCHEDULER_PORT, Addresses
from rtj_devcluster.control_plane import ControlPlane, ControlPlaneOptions, clear_abandoned
from rtj_devcluster.errors import CommandFailedError, DevClusterError
from rtj_devcluster.node import Node
from rtj_devcluster.node_config import NodeFiles, NodeSettings
from rtj_devcluster.paths import cluster_folder, write_atomically
from rtj_devcluster.pki import Pki
from rtj_devcluster.progress import stage
from rtj_devcluster.shell import run, tail, wait_until

DEFAULT_NAME = "dev"
_READY_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class ClusterOptions:
    """What ``up`` makes; all but ``nodes`` is fixed for the life of the cluster."""

    nodes: int = 2
    gpus_per_node: int = 0
    node_monitor_grace_seconds: int | None = None
    """Seconds of silence after which a node is marked as not ready; None: upstream's 50."""
    node_lease_seconds: int | None = None
    """How long a node's Lease is good for; None: upstream's 40."""
    audit: bool = False
    """Whether the API server logs each request (metadata only) to ``log/audit.log``."""


@dataclass(frozen=True)
class NodeStatus:
    """One node, as this machine and as Kubernetes sees it."""

    name: str
    power: str
    """``on``, ``off`` or ``partitioned``."""
    ready: bool | None
    """The node's Ready condition; None where the API server knows no such node."""


class Cluster:
    """One cluster by its name."""

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        self.name = name
        self.folder = cluster_folder(name)
        self._state = self.folder / "cluster.json"

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
        return sorted(self._read()["nodes"])

    def kubectl(self, *arguments: str, text_input: str | None = None) -> str:
        """Run kubectl as an administrator and return what it printed.

        Raises:
            CommandFailedError: it ended with an error; the message holds its words.
        """
        command: list[str | Path] = [
            kubebox.binary("kubectl"),
            f"--kubeconfig={self.kubeconfig}",
            *arguments,
        ]
        return run(command, text_input=text_input).stdout

    def get(self, *arguments: str) -> Any:
        """Return what ``kubectl get … -o json`` says."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def status(self) -> list[NodeStatus]:
        """Return the state of every node."""
        try:
            ready = self._ready_times()
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

        Without options, those of an existing cluster, or the defaults.

        Raises:
            MissingRequirementError: this machine lacks something; nothing was changed.
            DevClusterError: a part did not start; the message ends with its log.
        """
        preflight.check_rights()
        packages.ensure(packages.NODES)
        preflight.check_network()
        kubebox.binaries()
        with slots.locked(self.name):
            clear_abandoned()
            addresses = slots.take(self.name).addresses
            self._remember(options)
            with stage(f"Start the control plane of {self.name!r}"):
                self._start_control_plane(addresses)
            names = self.node_names
            with stage(f"Start {', '.join(names)}"):
                self._start_nodes(names)

    def _remember(self, options: ClusterOptions | None) -> None:
        if not self._state.exists():
            options = options or ClusterOptions()
            state = {"options": asdict(options), "nodes": {}}
        else:
            state = self._read()
            present = ClusterOptions(**state["options"])
            options = options or present
            if asdict(options) | {"nodes": 0} != asdict(present) | {"nodes": 0}:
                raise DevClusterError(
                    f"cluster {self.name!r} runs with {present}: take it down to change that"
                )
        if not 1 <= options.nodes <= MAX_NODES:
            raise DevClusterError(f"nodes: {options.nodes}: use 1 to {MAX_NODES}")
        for index in range(1, options.nodes + 1):
            state["nodes"].setdefault(_name_of(index), index)
        self._write(state)

    def _start_control_plane(self, addresses: Addresses) -> None:
        network.create_bridge(addresses)
        plane = self._control_plane()
        plane.start(addresses, bind=addresses.gateway, advertise=addresses.gateway, owned=False)
        pki, server = Pki(self.folder / "pki"), self._server(addresses)
        pki.issue("scheduler", "system:kube-scheduler")
        scheduler = pki.kubeconfig("scheduler", server, self.folder / "scheduler.kubeconfig")
        corefile = self.folder / "Corefile"
        corefile.write_text(manifests.corefile(addresses, str(self.kubeconfig)))
        plane.run_component(
            "kube-scheduler",
            [
                f"--kubeconfig={scheduler}",
                f"--bind-address={addresses.loopback}",
                f"--secure-port={SCHEDULER_PORT}",
                "--leader-elect=false",
            ],
        )
        plane.run_component("coredns", [f"-conf={corefile}"])
        if processes.recorded(plane.record("agent")) is None:
            processes.start(
                plane.record("agent"),
                [
                    *(sys.executable, "-m", "rtj_devcluster.agent"),
                    f"--kubeconfig={self.kubeconfig}",
                    f"--volumes={self.folder / 'volumes'}",
                ],
                log=plane.log("agent"),
            )
        objects = json.dumps(manifests.system_objects(addresses))
        self.kubectl("apply", "--server-side", "-f", "-", text_input=objects)

    def down(self) -> None:
        """Remove the cluster and all that it left on this machine, also after a crash."""
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
                cgroups.remove(cgroups.path_of(self.name))
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
        with slots.locked(self.name):
            self._node(name).kill()

    def partition(self, name: str) -> None:
        """Cut a node's network: its pods go on, unseen by the cluster."""
        with slots.locked(self.name):
            self._node(name).partition()

    def heal(self, name: str) -> None:
        """Mend a node's network."""
        with slots.locked(self.name):
            self._node(name).heal()

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
            state = self._read()
            state["nodes"].pop(name, None)
            self._write(state)

    def add_node(self, name: str | None = None) -> str:
        """Add a node, or bring one back: switched on, connected, schedulable. Return its name.

        Args:
            name: ``node-<number>``; None adds one with the lowest free number.
        """
        with slots.locked(self.name):
            state = self._read()
            if name is None:
                free = set(range(1, MAX_NODES + 1)) - set(state["nodes"].values())
                if not free:
                    raise DevClusterError(f"a cluster has at most {MAX_NODES} nodes")
                name = _name_of(min(free))
            state["nodes"].setdefault(name, _index_of(name))
            self._write(state)
            self._start_nodes([name])
            self._node(name).heal()
            self.kubectl("uncordon", name)
            return name

    # How it is done

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._state.read_text()))
        except FileNotFoundError:
            if self.exists:  # Cut short before anything was started.
                return {"options": asdict(ClusterOptions()), "nodes": {}}
            raise DevClusterError(
                f"there is no cluster {self.name!r}: start it with devcluster --name {self.name} up"
            ) from None

    def _write(self, state: dict[str, Any]) -> None:
        write_atomically(self._state, json.dumps(state, indent=2))

    def _options(self) -> ClusterOptions:
        return ClusterOptions(**self._read()["options"])

    def _addresses(self) -> Addresses:
        slot = slots.of_cluster(self.name)
        if slot is None:
            raise DevClusterError(f"there is no cluster {self.name!r}")
        return slot.addresses

    @staticmethod
    def _server(addresses: Addresses) -> str:
        return f"https://{addresses.gateway}:{API_SERVER_PORT}"

    def _control_plane(self) -> ControlPlane:
        options = self._options()
        return ControlPlane(
            self.name,
            ControlPlaneOptions(options.node_monitor_grace_seconds, options.audit),
        )

    def _node(self, name: str) -> Node:
        nodes = self._read()["nodes"]
        if name not in nodes:
            known = ", ".join(sorted(nodes)) or "none"
            raise DevClusterError(f"{self.name!r} has no node {name!r}; its nodes: {known}")
        options = self._options()
        return Node(
            NodeFiles(
                self.name,
                name,
                nodes[name],
                self.folder / "nodes" / name,
                self._addresses(),
                Pki(self.folder / "pki"),
                NodeSettings(options.gpus_per_node, options.node_lease_seconds),
            )
        )

    def _start_nodes(self, names: list[str]) -> None:
        nodes = [self._node(name) for name in names]
        # Status times have whole seconds.
        began = datetime.fromtimestamp(int(time.time()), UTC)
        fresh = {node.name for node in nodes if not node.running}
        server = self._server(self._addresses())
        _in_parallel(lambda node: node.start(server), nodes)

        def all_ready() -> bool:
            ready = self._ready_times()
            # What a node said before it was switched on says nothing.
            return all(
                (told := ready.get(node.name)) and (node.name not in fresh or told >= began)
                for node in nodes
            )

        wait_until(
            all_ready,
            what=f"{', '.join(names)} are Ready",
            timeout=_READY_TIMEOUT_SECONDS,
            every=0.2,
            hint=lambda: "\n".join(
                tail(node.files.folder / "log" / "kubelet.log") for node in nodes
            ),
        )

    def _ready_times(self) -> dict[str, datetime | None]:
        """Return, for each Node object, when it last said that it is Ready; None: it is not."""
        times: dict[str, datetime | None] = {}
        for node in self.get("nodes")["items"]:
            ready = [
                datetime.fromisoformat(condition["lastHeartbeatTime"])
                for condition in node["status"].get("conditions", [])
                if condition["type"] == "Ready" and condition["status"] == "True"
            ]
            times[node["metadata"]["name"]] = ready[0] if ready else None
        return times


def _power(node: Node) -> str:
    if not node.running:
        return "off"
    return "partitioned" if node.partitioned else "on"


def _name_of(index: int) -> str:
    return f"node-{index}"


def _index_of(name: str) -> int:
    found = re.fullmatch(r"node-([1-9]\d*)", name)
    if not found or int(found[1]) > MAX_NODES:
        raise DevClusterError(f"node name {name!r}: use node-1 to node-{MAX_NODES}")
    return int(found[1])


def _in_parallel(action: Callable[[Node], None], nodes: list[Node]) -> None:
    if nodes:
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(action, nodes))
