"""Which nodes are Ready, since when they say so, and whether the cluster believes it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rtj_devcluster import kubectl
from rtj_devcluster.shell import wait_until

_TIMEOUT_SECONDS = 120.0
_TAINTS_OF_THE_UNREADY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""The node controller takes these away some time after the node has said that it is Ready."""


def last_said(kubeconfig: Path) -> dict[str, datetime | None]:
    """Return, for each Node object, when it last said that it is Ready; None: it is not."""
    return {name: _last_said(node) for name, node in _nodes(kubeconfig).items()}


def _nodes(kubeconfig: Path) -> dict[str, dict[str, Any]]:
    return {node["metadata"]["name"]: node for node in kubectl.get(kubeconfig, "nodes")["items"]}


def _last_said(node: dict[str, Any]) -> datetime | None:
    for condition in node["status"].get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return datetime.fromisoformat(condition["lastHeartbeatTime"])
    return None


def _keeps_pods_away(node: dict[str, Any]) -> bool:
    taints = node["spec"].get("taints", [])
    return any(taint["key"] in _TAINTS_OF_THE_UNREADY for taint in taints)


def wait(
    kubeconfig: Path,
    names: Sequence[str],
    *,
    said_since: Mapping[str, datetime],
    hint: Callable[[], str],
) -> None:
    """Wait until all of these nodes are Ready, and the cluster sends pods there again.

    Args:
        kubeconfig: The cluster.
        names: The nodes.
        said_since: What a node said before this counts for nothing: it was switched off then.
        hint: What the error's message ends with.

    Raises:
        DevClusterError: they are not Ready within two minutes.
    """

    def ready(node: dict[str, Any], since: datetime | None) -> bool:
        said = _last_said(node)
        return bool(said and (not since or said >= since)) and not _keeps_pods_away(node)

    def all_ready() -> bool:
        nodes = _nodes(kubeconfig)
        return all(name in nodes and ready(nodes[name], said_since.get(name)) for name in names)

    what = f"{', '.join(names)} are Ready"
    wait_until(all_ready, what=what, timeout=_TIMEOUT_SECONDS, every=0.2, hint=hint)
