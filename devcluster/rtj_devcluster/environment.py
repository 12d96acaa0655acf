"""What the environment that a user starts us in must have for programs that we start."""

import os
from collections.abc import MutableMapping

from rtj_devcluster.addresses import NETWORKS, SLOTS, Addresses

_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_NAMES = (".svc", ".cluster.local")
_NO_PROXY = ("NO_PROXY", "no_proxy")


def complete(environment: MutableMapping[str, str]) -> None:
    """Add what is missing: the folders of system programs, and the way to clusters past a proxy.

    Done once, to the environment of this process, so that whatever speaks to a cluster has it:
    urllib, the client library, kubectl, Helm, the components, and what containerd and the kubelet
    call in turn. Doing it again changes nothing.
    """
    # Root by plain `su` has the PATH of a user, on which iptables is not.
    environment["PATH"] = _joined(environment.get("PATH", os.defpath), _SYSTEM_FOLDERS, ":")
    if _has_proxy(environment):
        own = ",".join(filter(None, map(environment.get, _NO_PROXY)))
        for name in _NO_PROXY:
            environment[name] = _joined(own, _addresses(), ",")


def _has_proxy(environment: MutableMapping[str, str]) -> bool:
    """Say whether there is a proxy, and something that does not go through it."""
    names = {name.lower() for name, value in environment.items() if value}
    proxies = {name for name in names if name.endswith("_proxy")} - {"no_proxy"}
    return bool(proxies) and "*" not in map(environment.get, _NO_PROXY)


def _addresses() -> tuple[str, ...]:
    # Python compares whole addresses; Go reads networks, too.
    hosts = [address for slot in SLOTS for address in _hosts(Addresses(slot))]
    return (*hosts, *NETWORKS, *_NAMES)


def _hosts(addresses: Addresses) -> tuple[str, str]:
    return addresses.gateway, addresses.loopback


def _joined(present: str, more: tuple[str, ...], separator: str) -> str:
    parts = [part for part in present.split(separator) if part]
    return separator.join(dict.fromkeys((*parts, *more)))
