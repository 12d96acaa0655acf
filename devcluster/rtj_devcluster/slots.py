"""Who has which slot: a file per slot, taken under a lock.

A slot is taken before anything else of a cluster exists and given back after all
of it is gone, so a cluster that was cut short at any point is found again by
name. A slot may belong to a process (a test run's control plane); when that
process is gone, whoever looks next may clear the slot.
"""

import fcntl
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from rtj_devcluster.addresses import API_SERVER_PORT, ETCD_CLIENT_PORT, SLOTS, Addresses
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.paths import state_root, write_atomically
from rtj_devcluster.processes import Process, me


@dataclass(frozen=True)
class Slot:
    """One taken slot."""

    number: int
    cluster: str
    owner: Process | None
    """The process that the cluster lives and dies with; None for one that stays."""

    @property
    def addresses(self) -> Addresses:
        """The addresses that follow from the slot."""
        return Addresses(self.number)

    @property
    def abandoned(self) -> bool:
        """Whether the owning process is gone, so that nobody will take the cluster down."""
        return self.owner is not None and not self.owner.alive()


@contextmanager
def locked(name: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of this name, alone or with others; the kernel frees it when a holder dies."""
    folder = state_root() / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def _folder() -> Path:
    return state_root() / ".slots"


def taken() -> list[Slot]:
    """Return all slots that are taken."""
    found = []
    for number in SLOTS:
        try:
            record = json.loads((_folder() / str(number)).read_text())
        except FileNotFoundError:
            continue
        owner = Process(**record["owner"]) if record["owner"] else None
        found.append(Slot(number, record["cluster"], owner))
    return found


def of_cluster(cluster: str) -> Slot | None:
    """Return the slot that a cluster has, if any."""
    return next((slot for slot in taken() if slot.cluster == cluster), None)


def take(cluster: str, *, owned: bool = False) -> Slot:
    """Return the slot that this cluster has, taking a free one where it has none.

    ``owned`` ties a new slot to the calling process, whose cluster has no nodes and needs no
    more than the loopback address.

    Raises:
        DevClusterError: every slot is taken, or something else uses its addresses.
    """
    obstacles: dict[str, None] = {}
    with locked(".slots"):
        present = taken()
        for slot in present:
            if slot.cluster == cluster:
                return slot
        used = {slot.number for slot in present}
        for number in [number for number in SLOTS if number not in used]:
            found = list(_obstacles(Addresses(number), routed=not owned))
            obstacles.update(dict.fromkeys(found))
            if not found:
                slot = Slot(number, cluster, me() if owned else None)
                record = {"cluster": cluster, "owner": slot.owner and asdict(slot.owner)}
                write_atomically(_folder() / str(number), json.dumps(record))
                return slot
    in_the_way = f"; in the way of the others: {', '.join(obstacles)}" if obstacles else ""
    raise DevClusterError(
        f"no address slot is free: {len(used)} of {len(SLOTS)} have clusters (devcluster status "
        f"lists them, down takes one down){in_the_way}"
    )


def give_back(cluster: str) -> None:
    """Free the slot of a cluster; nothing happens when it has none."""
    with locked(".slots"):
        slot = of_cluster(cluster)
        if slot is not None:
            (_folder() / str(slot.number)).unlink()


def _obstacles(addresses: Addresses, *, routed: bool) -> Iterator[str]:
    """Name what else on this machine listens on or, where that matters, routes to addresses."""
    for port in (ETCD_CLIENT_PORT, API_SERVER_PORT):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((addresses.loopback, port))
            except OSError:
                yield f"a listener at {addresses.loopback}:{port}"
    if routed:
        ours = (addresses.node_network, addresses.services, addresses.pods)
        for route in _routes():
            if route.prefixlen and any(route.overlaps(network) for network in ours):
                yield f"the route to {route}"


def _routes() -> Iterator[IPv4Network]:
    """Yield the destinations of the main routing table, see proc_net_route."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        destination, mask = (
            IPv4Address(int.from_bytes(bytes.fromhex(fields[column]), "little"))
            for column in (1, 7)
        )
        yield IPv4Network(f"{destination}/{mask}")
