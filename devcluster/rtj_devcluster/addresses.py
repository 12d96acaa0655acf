"""Which addresses a cluster uses: all of them follow from one number, its slot.

Clusters side by side have different slots, so bridges, subnets and listeners
never meet. Listeners on the host use the slot's own loopback address (the whole
of 127.0.0.0/8 is local on Linux). Their ports are not the usual ones, since
another Kubernetes on this machine may listen there on every address.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

SLOTS = range(32)
MAX_NODES = 32
NETWORKS = ("172.30.0.0/16", "10.128.0.0/11")
"""All nodes, and all services and pods, of all slots."""

API_SERVER_PORT = 21443
CONTROLLER_MANAGER_PORT = 21257
ETCD_CLIENT_PORT = 21379
ETCD_PEER_PORT = 21380
SCHEDULER_PORT = 21259


@dataclass(frozen=True)
class Addresses:
    """The addresses of the cluster in one slot."""

    slot: int

    @property
    def loopback(self) -> str:
        """Address of what only this machine talks to, such as etcd."""
        return f"127.77.{self.slot}.1"

    @property
    def bridge(self) -> str:
        """Name of the bridge that all nodes are plugged into."""
        return f"rtj{self.slot}"

    @property
    def gateway(self) -> str:
        """Address of this machine on the bridge: API server and DNS listen there."""
        return f"172.30.{self.slot}.1"

    @property
    def node_network(self) -> IPv4Network:
        """Network of the nodes."""
        return IPv4Network(f"172.30.{self.slot}.0/24")

    @property
    def services(self) -> IPv4Network:
        """Range of cluster IPs of services."""
        return IPv4Network(f"10.{128 + self.slot}.0.0/20")

    @property
    def kubernetes_service(self) -> IPv4Address:
        """Cluster IP of the API server: always the first of the range."""
        return self.services[1]

    @property
    def dns_service(self) -> IPv4Address:
        """Cluster IP of the DNS."""
        return self.services[10]

    @property
    def pods(self) -> IPv4Network:
        """Network of all pods."""
        return IPv4Network(f"10.{128 + self.slot}.128.0/17")

    def node(self, index: int) -> str:
        """Return the address of node ``index``, which counts from 1."""
        return str(self.node_network[10 + index])

    def pods_of_node(self, index: int) -> IPv4Network:
        """Return the network of the pods of node ``index``."""
        return IPv4Network(f"10.{128 + self.slot}.{128 + index}.0/24")

    def link(self, index: int) -> str:
        """Return the name of the bridge's side of the cable to node ``index``."""
        return f"rtj{self.slot}n{index}"
