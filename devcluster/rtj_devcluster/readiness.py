"""Which nodes are Ready, and since when they say so."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rtj_devcluster import kubectl
from rtj_devcluster.shell import wait_until

_TIMEOUT_SECONDS = 120.0


def last_said(kubeconfig: Path) -> dict[str, datetime | None]:
    """Return, for each Node object, when it last said that it is Ready; None: it is not."""
    times: dict[str, datetime | None] = {}
    for node in kubectl.get(kubeconfig, "nodes")["items"]:
        ready = [
            datetime.fromisoformat(condition["lastHeartbeatTime"])
            for condition in node["status"].get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        ]
        times[node["metadata"]["name"]] = ready[0] if ready else None
    return times


def wait(
    kubeconfig: Path,
    names: Sequence[str],
    *,
    said_since: Mapping[str, datetime],
    hint: Callable[[], str],
) -> None:
    """Wait until all of these nodes are Ready.

    Args:
        kubeconfig: The cluster.
        names: The nodes.
        said_since: What a node said before this counts for nothing: it was switched off then.
        hint: What the error's message ends with.

    Raises:
        DevClusterError: they are not Ready within two minutes.
    """

    def all_ready() -> bool:
        said = last_said(kubeconfig)
        return all(
            (time := said.get(name)) and (name not in said_since or time >= said_since[name])
            for name in names
        )

    what = f"{', '.join(names)} are Ready"
    wait_until(all_ready, what=what, timeout=_TIMEOUT_SECONDS, every=0.2, hint=hint)
