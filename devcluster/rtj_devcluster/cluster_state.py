"""What is known of a cluster between two commands: its options, and which nodes it has."""

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rtj_devcluster.addresses import MAX_NODES
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.paths import write_atomically


@dataclass(frozen=True)
class ClusterOptions:
    """What ``up`` makes; all but ``nodes`` is fixed for the life of the cluster."""

    nodes: int | None = 2
    """How many there are to be, with those that are there; None: just those."""
    gpus_per_node: int = 0
    audit: bool = False
    """Whether the API server logs each request (metadata only) to ``log/audit.log``."""
    node_lease_seconds: int = 40
    """How long the Lease of a node is good for; upstream's default. A kubelet renews it at each
    quarter of that: with less, one that a busy machine delays is not soon taken for dead."""

    @property
    def fixed(self) -> str:
        """What cannot change, for a person."""
        return (
            f"gpus-per-node {self.gpus_per_node}, audit {'on' if self.audit else 'off'} and node "
            f"Leases of {self.node_lease_seconds} s"
        )


@dataclass(frozen=True)
class ClusterState:
    """The options that a cluster was made with, and its nodes by name, on or off."""

    options: ClusterOptions
    nodes: dict[str, int]
    """Name → index, which the node's addresses follow from."""
    cgroup: str
    """Path of the cgroup of all nodes, see `cgroups.path_of`."""

    @classmethod
    def load(cls, path: Path) -> "ClusterState | None":
        """Return the state in a file; None where there is none.

        Raises:
            DevClusterError: the file is broken.
        """
        # A cluster of another version of this file can still be taken down.
        known = ClusterOptions.__dataclass_fields__
        try:
            fields = json.loads(path.read_text())
            options = {name: value for name, value in fields["options"].items() if name in known}
            # That was the path while it was not written down.
            cgroup = fields.get("cgroup", f"/rtj-{path.parent.name}")
            return cls(ClusterOptions(**options), fields["nodes"], cgroup)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DevClusterError(
                f"{path}: broken, as by a full disk or a power cut. Remove it; then the cluster "
                "can be taken down"
            ) from error

    def save(self, path: Path) -> None:
        """Write the state to a file."""
        write_atomically(path, json.dumps(asdict(self), indent=2))

    def asked_for(self, options: ClusterOptions) -> "ClusterState":
        """Return the state with as many nodes as are asked for.

        Raises:
            DevClusterError: other options than the number of nodes differ, or that is too high, or
                less than there are.
        """
        if replace(options, nodes=0) != replace(self.options, nodes=0):
            raise DevClusterError(
                f"the cluster was made with {self.options.fixed}, not with {options.fixed}: "
                "take it down to change that"
            )
        if options.nodes is None:
            return self
        if not 1 <= options.nodes <= MAX_NODES:
            raise DevClusterError(f"nodes: {options.nodes}: use 1 to {MAX_NODES}")
        if options.nodes < len(self.nodes):
            raise DevClusterError(
                f"nodes: {options.nodes}: the cluster has {len(self.nodes)}, "
                f"{', '.join(sorted(self.nodes))}: take one away with delete-node"
            )
        grown = self
        while len(grown.nodes) < options.nodes:
            grown, _ = grown.with_node(None)
        return grown

    def with_node(self, name: str | None) -> "tuple[ClusterState, str]":
        """Return the state with one node more, and that node's name.

        Args:
            name: None takes the lowest free number; a node that is there already stays as it is.
        """
        if name is None:
            free = set(range(1, MAX_NODES + 1)) - set(self.nodes.values())
            if not free:
                raise DevClusterError(f"a cluster has at most {MAX_NODES} nodes")
            name = name_of(min(free))
        return replace(self, nodes={**self.nodes, name: _index_of(name)}), name

    def without_node(self, name: str) -> "ClusterState":
        """Return the state with one node less."""
        left = {each: index for each, index in self.nodes.items() if each != name}
        return replace(self, nodes=left)


def name_of(index: int) -> str:
    """Return the name of the node with an index."""
    return f"node-{index}"


def _index_of(name: str) -> int:
    found = re.fullmatch(r"node-([1-9]\d*)", name)
    if not found or int(found[1]) > MAX_NODES:
        raise DevClusterError(f"node name {name!r}: use node-1 to node-{MAX_NODES}")
    return int(found[1])
