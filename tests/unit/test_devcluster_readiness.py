"""A node counts as Ready when it says so itself and the cluster sends pods there."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rtj_devcluster import kubectl, readiness
from rtj_devcluster.errors import DevClusterError

pytestmark = pytest.mark.unit

OLD, NEW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC), datetime(2026, 1, 1, 12, 1, tzinfo=UTC)
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"


def _node(*taints: str, ready: str = "True", said: datetime = NEW) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": said.isoformat()}
    return {
        "metadata": {"name": "node-1"},
        "spec": {"taints": [{"key": key, "effect": "NoSchedule"} for key in taints]},
        "status": {"conditions": [condition]},
    }


def _looks(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, Any] | None) -> Iterator[object]:
    """Show the node so at each look, and yield what is left to be seen."""
    left = iter(nodes)

    def get(*_: object) -> dict[str, Any]:
        node = next(left)
        return {"items": [node] if node else []}

    monkeypatch.setattr(kubectl, "get", get)
    return left


def _wait() -> None:
    readiness.wait(Path("any"), ["node-1"], said_since={"node-1": NEW}, hint=lambda: "its log")


@pytest.mark.parametrize(
    "before",
    [
        None,
        _node(ready="Unknown"),
        _node(said=OLD),
        _node(NOT_READY),
        _node(UNREACHABLE),
        _node("of-its-owner", NOT_READY),
    ],
)
def test_a_node_is_waited_for_until_the_cluster_sends_pods_there(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, Any] | None
) -> None:
    left = _looks(monkeypatch, before, _node())
    _wait()
    assert not list(left)


def test_taints_of_people_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ("node.kubernetes.io/unschedulable", "node.kubernetes.io/out-of-service")
    left = _looks(monkeypatch, _node(*theirs))
    _wait()
    assert not list(left)


def test_a_node_that_stays_tainted_ends_the_wait_with_its_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "_TIMEOUT_SECONDS", 0)
    _looks(monkeypatch, _node(NOT_READY))
    with pytest.raises(DevClusterError, match=r"(?s)node-1 are Ready: .*its log"):
        _wait()
