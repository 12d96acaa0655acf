"""The cluster's network on the host: one bridge, and a cable from it to each node.

Nodes talk to each other and to the control plane over the bridge alone, so the
host neither forwards nor translates for them, and none of its settings change.
Two firewall rules keep a strict host from dropping what crosses the bridge.
"""

import contextlib
from ipaddress import ip_address

from rtj_devcluster.addresses import Addresses
from rtj_devcluster.errors import CommandFailedError
from rtj_devcluster.shell import run


def _exists(link: str) -> bool:
    return run(["ip", "link", "show", "dev", link], check=False).returncode == 0


def _firewall_rules(addresses: Addresses) -> list[list[str]]:
    comment = ["-m", "comment", "--comment", f"devcluster {addresses.bridge}", "-j", "ACCEPT"]
    return [
        ["INPUT", "-i", addresses.bridge, *comment],
        ["FORWARD", "-i", addresses.bridge, "-o", addresses.bridge, *comment],
    ]


def create_bridge(addresses: Addresses) -> None:
    """Make the bridge with the host's address on it, unless it is there."""
    bridge = addresses.bridge
    if not _exists(bridge):
        # A bridge without an address of its own has its lowest cable's. It would change when that
        # node dies, and nobody on the others could reach the API server for some seconds.
        run(
            ["ip", "link", "add", bridge, "address", _hardware_address(addresses), "type", "bridge"]
        )
    prefix = addresses.node_network.prefixlen
    run(["ip", "address", "replace", f"{addresses.gateway}/{prefix}", "dev", bridge])
    run(["ip", "link", "set", bridge, "up"])
    for rule in _firewall_rules(addresses):
        if run(["iptables", "-w", "-C", *rule], check=False).returncode != 0:
            run(["iptables", "-w", "-I", *rule])


def _hardware_address(addresses: Addresses) -> str:
    """Return an address of the locally administered range, made of the gateway's."""
    return ":".join(f"{part:02x}" for part in (0x02, 0x00, *ip_address(addresses.gateway).packed))


def delete_bridge(addresses: Addresses) -> None:
    """Remove the bridge, its routes and its firewall rules, as far as they are there."""
    if _exists(addresses.bridge):
        run(["ip", "link", "delete", addresses.bridge])
    for rule in _firewall_rules(addresses):
        while run(["iptables", "-w", "-D", *rule], check=False).returncode == 0:
            pass


def plug_in(addresses: Addresses, index: int, pid: int) -> None:
    """Lay the cable from the bridge to ``eth0`` in the network namespace of a process.

    The cable goes away with that namespace.
    """
    link = addresses.link(index)
    if not _exists(link):
        command = ["ip", "link", "add", link, "type", "veth"]
        run([*command, "peer", "name", "eth0", "netns", str(pid)])
    run(["ip", "link", "set", link, "master", addresses.bridge, "up"])
    pods, via = str(addresses.pods_of_node(index)), addresses.node(index)
    run(["ip", "route", "replace", pods, "via", via, "dev", addresses.bridge])


def unplug(addresses: Addresses, index: int) -> None:
    """Remove the cable, if the kernel has not done so yet with the namespace at its end."""
    with contextlib.suppress(CommandFailedError):
        run(["ip", "link", "delete", addresses.link(index)])


def cut(addresses: Addresses, index: int) -> None:
    """Take the cable's link down: nothing goes through until ``mend``."""
    run(["ip", "link", "set", addresses.link(index), "down"])


def mend(addresses: Addresses, index: int) -> None:
    """Take the cable's link up again."""
    run(["ip", "link", "set", addresses.link(index), "up"])


def is_cut(addresses: Addresses, index: int) -> bool:
    """Say whether the cable is there but down."""
    shown = run(["ip", "-brief", "link", "show", "dev", addresses.link(index)], check=False)
    return shown.returncode == 0 and "UP" not in shown.stdout.split("<")[-1].split(">")[0]
