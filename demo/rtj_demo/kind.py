"""The demo's cluster by kind, for machines that have a Docker engine.

Nodes are containers, so a node dies by `docker kill`. Its default StorageClass gives one node's
folder only, so a shared one is set up from volumes that are mounted into every node.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from rtj_devcluster.progress import stage

from rtj_demo import install
from rtj_demo.clusters import Images, UnusableClusterError, require
from rtj_demo.jobs import Job
from rtj_demo.kube import Kube

NAME = "rtj-demo"
ROOT = Path(__file__).parents[2]
STATE = Path.home() / ".cache" / "rtj-demo-kind"
SHARED = "/rtj-shared"
VOLUMES = 4
OPERATOR = "docker.io/library/rtj-operator:dev"
TRAINER = "docker.io/library/rtj-trainer:dev"


class KindCluster:
    """A control plane and two workers, as containers."""

    name = f"kind-{NAME}"
    victim = "node"
    release = install.EVERYWHERE
    way_down = "`make clean` takes it down"

    def __init__(self) -> None:
        require("kind", "docker", "kind", "kubectl", "helm")
        if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
            raise UnusableClusterError(
                "CLUSTER=kind needs a running Docker engine; `docker info` does not answer"
            )
        self.kube = Kube(["kubectl"], ["helm"], str(STATE / "kubeconfig"), STATE / "kubectl-cache")

    def up(self) -> None:
        """Create the cluster, or go on with the one that is there."""
        volumes = STATE / "volumes"
        for number in range(VOLUMES):
            folder = volumes / f"pv-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
        with stage("Start a two-node Kubernetes with kind"):
            names = _run("kind", "get", "clusters").split()
            if NAME not in names:
                config = STATE / "kind.yaml"
                config.write_text(yaml.safe_dump(_config(volumes)))
                _run("kind", "create", "cluster", "--name", NAME, "--config", str(config))
            _run(
                *("kind", "export", "kubeconfig", "--name", NAME),
                *("--kubeconfig", self.kube.kubeconfig),
            )
            _run("docker", "start", *_nodes())
            self.kube.run("wait", "node", "--all", "--for=condition=Ready", "--timeout=120s")
            self.kube.run("delete", "storageclass", "standard", "--ignore-not-found")
            self._throw_away_used_volumes()
            self.kube.apply(*_storage())

    def _throw_away_used_volumes(self) -> None:
        """A volume that had a claim takes no other: without this, the fifth demo would wait."""
        for volume in json.loads(self.kube.run("get", "pv", "-o", "json"))["items"]:
            if volume.get("status", {}).get("phase") == "Released":
                # In a node, since what the jobs wrote belongs to their users and not to ours.
                folder = volume["spec"]["hostPath"]["path"]
                _run(
                    "docker", "exec", f"{NAME}-worker", "find", folder, "-mindepth", "1", "-delete"
                )
                self.kube.run("delete", "pv", volume["metadata"]["name"])

    def provide_images(self) -> Images:
        """Build both images with Docker and load them into the nodes."""
        for part, image in (("operator", OPERATOR), ("trainer", TRAINER)):
            with stage(f"Build the {part} image"):
                _run("docker", "build", "-f", f"{part}/Dockerfile", "-t", image, str(ROOT))
            with stage(f"Load the {part} image into the nodes"):
                _run("kind", "load", "docker-image", image, "--name", NAME)
        digest = _run("docker", "image", "inspect", "--format", "{{.Id}}", OPERATOR).strip()
        return Images(OPERATOR, TRAINER, digest)

    def strike(self, job: Job) -> str:
        """End the job's node as a power cut does; return what was done, for a person."""
        node = job.node_name()
        _run("docker", "kill", node)
        return f"killed node {node} (docker kill)"

    def mend(self) -> None:
        """Bring killed nodes back."""
        _run("docker", "start", *_nodes())

    def down(self) -> None:
        """Delete the cluster and its volumes."""
        with stage(f"Delete the kind cluster {NAME!r}"):
            _run("kind", "delete", "cluster", "--name", NAME)
            shutil.rmtree(STATE, ignore_errors=True)


def take_down_what_is_left() -> None:
    """Delete the cluster of an earlier demo; where there was none, kind need not be installed."""
    if STATE.exists():
        KindCluster().down()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise UnusableClusterError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _nodes() -> list[str]:
    return _run("kind", "get", "nodes", "--name", NAME).split()


def _config(volumes: Path) -> dict[str, object]:
    mounts = [{"hostPath": str(volumes), "containerPath": SHARED}]
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [
            {"role": "control-plane"},
            {"role": "worker", "extraMounts": mounts},
            {"role": "worker", "extraMounts": mounts},
        ],
    }


def _storage() -> list[dict[str, Any]]:
    storage_class: dict[str, Any] = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "shared",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
    }
    volumes: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"rtj-shared-{number}"},
            "spec": {
                "capacity": {"storage": "20Gi"},
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "shared",
                "hostPath": {"path": f"{SHARED}/pv-{number}"},
            },
        }
        for number in range(VOLUMES)
    ]
    return [storage_class, *volumes]
