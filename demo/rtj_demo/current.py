"""The demo on a cluster that already exists; asked for by name, never by default.

A node of somebody's cluster is not ours to kill: here the trainer's pod is deleted by force, as an
eviction without notice does it. Nor is their operator ours to change: the demo has a release of its
own, for its own namespace.
"""

import json
import os
from pathlib import Path
from typing import Any

from rtj_devcluster.progress import stage

from rtj_demo import install
from rtj_demo.clusters import Images, Release, UnusableClusterError, require
from rtj_demo.jobs import Job
from rtj_demo.kube import Kube
from rtj_demo.say import say
from rtj_demo.story import NAMESPACE


class CurrentCluster:
    """The cluster that `KUBECONFIG` names."""

    name = "current"
    victim = "pod"
    release = Release(NAMESPACE, NAMESPACE, jobs_in=NAMESPACE)

    def __init__(self) -> None:
        missing = [
            name
            for name in ("KUBECONFIG", "OPERATOR_IMAGE", "TRAINER_IMAGE")
            if not os.environ.get(name)
        ]
        if missing:
            raise UnusableClusterError(
                f"CLUSTER=current needs {', '.join(missing)} in the environment: the cluster, and "
                "both images in a registry that it pulls from. Its default StorageClass must give "
                "ReadWriteMany volumes"
            )
        require("current", "kubectl", "helm")
        files = os.environ["KUBECONFIG"]
        # kubectl would go on without, to whatever cluster this machine is a pod of.
        if not any(Path(file).is_file() for file in files.split(os.pathsep)):
            raise UnusableClusterError(f"KUBECONFIG is {files}: there is no such file")
        self.kube = Kube(["kubectl"], ["helm"], files, Path.home() / ".kube" / "cache")
        self.way_down = "the demo has put nothing there"

    def up(self) -> None:
        """Check that the cluster answers, and that no other operator would take the demo's jobs.

        Raises:
            UnusableClusterError: There is such an operator; the message names it.
        """
        with stage("Reach the cluster that KUBECONFIG names"):
            self.kube.run("get", "--raw", "/readyz")
            _refuse_beside_another_operator(self.kube)
        self.way_down = (
            f"`helm uninstall {self.release.name} --namespace {self.release.namespace}`, then "
            f"`kubectl delete namespace {NAMESPACE}`, take away what the demo put there, but for "
            "the CRD"
        )

    def provide_images(self) -> Images:
        """Name the images that the cluster will pull."""
        say(f"  using {os.environ['OPERATOR_IMAGE']} and {os.environ['TRAINER_IMAGE']}")
        return Images(os.environ["OPERATOR_IMAGE"], os.environ["TRAINER_IMAGE"])

    def strike(self, job: Job) -> str:
        """Delete the job's pod by force; return what was done, for a person."""
        pod = job.pod_name()
        job.kube.run("delete", "pod", pod, "-n", job.namespace, "--force", "--grace-period=0")
        return f"deleted pod {pod} by force (a node of yours is not killed)"

    def mend(self) -> None:
        """Do nothing: no node was touched."""

    def down(self) -> None:
        """Say what is left: the cluster is not ours, and may have had an operator before."""
        say(f"The cluster is yours and stays as it is; {self.way_down}.")


def _refuse_beside_another_operator(kube: Kube) -> None:
    """Two operators must never share a namespace: each would make the pods of the other's jobs."""
    selector = f"app.kubernetes.io/name={install.CHART.name}"
    listed = kube.run("get", "deployments", "--all-namespaces", "-l", selector, "-o", "json")
    for found in json.loads(listed)["items"]:
        metadata = found["metadata"]
        own = metadata["labels"].get("app.kubernetes.io/instance") == CurrentCluster.release.name
        inside = metadata["namespace"] == NAMESPACE
        served = _served(found)
        if not (inside and own) and (inside or not served or NAMESPACE in served):
            raise UnusableClusterError(
                f"the operator {metadata['name']} in namespace {metadata['namespace']} looks after "
                f"{', '.join(served) or 'all namespaces'}, and the demo needs {NAMESPACE} for an "
                "operator of its own: use a cluster without one, or give that one other "
                "namespaces (watchNamespaces of its chart)"
            )


def _served(deployment: dict[str, Any]) -> list[str]:
    """Return the namespaces that an operator serves; empty means all."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    told = {v["name"]: v.get("value", "") for c in containers for v in c.get("env", [])}
    return [name for name in told.get("RTJ_NAMESPACES", "").split(",") if name]
