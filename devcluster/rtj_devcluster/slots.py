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
from rtj_devcluster.paths import cluster_folder, state_root, write_atomically
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
def locked(name: str, *, shared: bool = False) -> Iterator[int]:
    """Hold the lock of this name, alone or with others; the kernel frees it when a holder dies.

    Yields its file descriptor; a program that inherits it holds the lock as well.
    """
    with _lock_file(name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield file.fileno()


@contextmanager
def in_use(cluster: str, mend: str = "") -> Iterator[None]:
    """Keep a cluster to one run, such as one of its tests, from begin to end.

    Commands about the cluster are not kept from it: the run makes them itself.

    Args:
        cluster: Its name.
        mend: What else than to wait can be done, for a person.

    Raises:
        DevClusterError: another run uses it; nothing is waited for.
    """
    with _lock_file(f".run.{cluster}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DevClusterError(
                f"another run uses the cluster {cluster!r}: wait until it has ended{mend}"
            ) from error
        yield


def _lock_file(name: str) -> Path:
    folder = state_root() / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _folder() -> Path:
    return state_root() / ".slots"


def taken() -> list[Slot]:
    """Return all slots of which it is known who has them."""
    return _look()[0]


def check() -> None:
    """Check that of every slot that is taken it is known who has it.

    Raises:
        DevClusterError: a file is broken; the message says what to remove.
    """
    _, broken = _look()
    if broken:
        raise _unknown(broken)


def _look() -> tuple[list[Slot], list[Path]]:
    """Return the slots that are taken, and the files of those that do not say by whom."""
    found, broken = [], []
    for number in SLOTS:
        path = _folder() / str(number)
        try:
            record = json.loads(path.read_text())
            owner = Process(**record["owner"]) if record["owner"] else None
            found.append(Slot(number, record["cluster"], owner))
        except FileNotFoundError:
            continue
        except (ValueError, TypeError, KeyError):
            broken.append(path)
    return found, broken


def _unknown(broken: list[Path]) -> DevClusterError:
    return DevClusterError(
        f"{', '.join(map(str, broken))}: broken, as by a full disk or a power cut, so it is not "
        f"known whose slot it is. Remove it, and in {state_root()} the folder of that cluster"
    )


def of_cluster(cluster: str) -> Slot | None:
    """Return the slot that a cluster has, if any."""
    return next((slot for slot in taken() if slot.cluster == cluster), None)


def take(cluster: str, *, owned: bool = False) -> Slot:
    """Return the slot that this cluster has, taking a free one where it has none.

    ``owned`` ties a new slot to the calling process, whose cluster has no nodes and needs no
    more than the loopback address.

    Raises:
        DevClusterError: every slot is taken, or something else uses its addresses, or a slot
            whose file is broken may be that of this cluster.
    """
    obstacles: dict[str, None] = {}
    with locked(".slots"):
        present, broken = _look()
        for slot in present:
            if slot.cluster == cluster:
                return slot
        if broken and cluster_folder(cluster).exists():
            raise _unknown(broken)
        used = {slot.number for slot in present} | {int(path.name) for path in broken}
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
