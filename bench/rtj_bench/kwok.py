"""KWOK plays the kubelets: its nodes are always ready, and its pods run without a container.

Ours are the stages of a pod's life, since a preempted pod must go through the same states that a
kubelet shows: it is asked to go, its container ends, and only then does the object go. KWOK's own
stages skip the middle, which is what both controllers wait for.
"""

import json
import textwrap
from pathlib import Path
from typing import Any

import yaml
from rtj_devcluster import golang
from rtj_devcluster.progress import stage

SOURCE = Path(__file__).resolve().parent.parent / "kwok"
_PACKAGE = "sigs.k8s.io/kwok/cmd/kwok"

NODE_LEASE_SECONDS = 40
"""As a kubelet's by default; it is renewed every quarter of that."""


def binary() -> Path:
    """Return KWOK's controller, which is built on the first call on a machine."""
    inputs = [(SOURCE / name).read_bytes() for name in ("go.mod", "go.sum")]
    return golang.built("kwok", inputs, "kwok", _build) / "kwok"


def _build(folder: Path, lock: int) -> None:
    with stage("Download the sources of KWOK"):
        packages = golang.packages_of(SOURCE, _PACKAGE)
    with stage("Build KWOK (minutes, once)", total=packages) as advance:
        golang.compile_to(folder / "kwok", SOURCE, _PACKAGE, advance=advance, lock=lock)


def write_configuration(path: Path) -> None:
    """Write what KWOK is to do: look after every node, and play its pods."""
    options = {
        "cidr": "10.99.0.1/16",
        "manageAllNodes": True,
        "nodeLeaseDurationSeconds": NODE_LEASE_SECONDS,
        "podPlayStageParallelism": 16,
        "nodePlayStageParallelism": 4,
        "podsOnNodeSyncParallelism": 4,
        "nodeLeaseParallelism": 4,
    }
    configuration = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokConfiguration",
        "metadata": {"name": "kwok"},
        "options": options,
    }
    path.write_text(yaml.safe_dump_all([configuration, *_stages()]))


def node(name: str) -> dict[str, Any]:
    """Return a node that takes any number of pods."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
    }


def _stages() -> list[dict[str, Any]]:
    gone, phase = ".metadata.deletionTimestamp", ".status.phase"
    return [
        _stage("Node", "node-is-ready", [_is_not(phase)], _status(_NODE)),
        _stage("Pod", "pod-runs", [_is_not(gone), _is_not(".status.podIP")], _status(_RUNS)),
        _stage("Pod", "pod-ends", [_is(gone), _in(phase, "Pending", "Running")], _status(_ENDS)),
        _stage("Pod", "pod-goes", [_is(gone), _in(phase, "Failed")], {"delete": True}),
    ]


def _status(template: str) -> dict[str, Any]:
    return {"statusTemplate": template}


def _stage(
    kind: str, name: str, expressions: list[dict[str, Any]], following: dict[str, Any]
) -> dict[str, Any]:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": expressions},
            "next": following,
        },
    }


def _is(path: str) -> dict[str, Any]:
    return {"key": path, "operator": "Exists"}


def _is_not(path: str) -> dict[str, Any]:
    return {"key": path, "operator": "DoesNotExist"}


def _in(path: str, *values: str) -> dict[str, Any]:
    return {"key": path, "operator": "In", "values": list(values)}


def _containers(ready: bool, state: str) -> str:
    """Return the part of a status template that gives every container the same state."""
    return textwrap.dedent(
        f"""
        containerStatuses:
        {{{{ range .spec.containers }}}}
        - name: {{{{ .name | Quote }}}}
          image: {{{{ .image | Quote }}}}
          imageID: {{{{ .image | Quote }}}}
          ready: {json.dumps(ready)}
          restartCount: 0
          state: {state}
        {{{{ end }}}}
        """
    )


def _conditions(*types: str) -> str:
    """Return the part of a status template that says True of each of these."""
    return "conditions:" + "".join(
        f"""
- type: {condition}
  status: "True"
  reason: Played
  lastTransitionTime: {{{{ Now | Quote }}}}"""
        for condition in types
    )


_NODE = (
    _conditions("Ready")
    + """
phase: Running
allocatable: {cpu: 1k, memory: 1Ti, pods: 1k}
capacity: {cpu: 1k, memory: 1Ti, pods: 1k}
addresses:
- {type: InternalIP, address: 198.51.100.1}
"""
)
_RUNS = (
    _conditions("Initialized", "Ready", "ContainersReady")
    + _containers(True, "{running: {startedAt: {{ Now | Quote }}}}")
    + """
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}
phase: Running
startTime: {{ Now | Quote }}
"""
)
_ENDS = (
    _containers(
        False,
        "{terminated: {exitCode: 143, reason: Error, finishedAt: {{ Now | Quote }}}}",
    )
    + "phase: Failed\n"
)
