"""The demo on a cluster that already exists; asked for by name, never by default.

A node of somebody's cluster is not ours to kill: here the trainer's pod is deleted by force, as an
eviction without notice does it.
"""

import os
from pathlib import Path

from rtj_devcluster.build import name_and_tag
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.progress import stage

from rtj_demo import install
from rtj_demo.clusters import Images, UnusableClusterError, require
from rtj_demo.jobs import Job
from rtj_demo.kube import Kube
from rtj_demo.say import say
from rtj_demo.story import NAMESPACE


class CurrentCluster:
    """The cluster that `KUBECONFIG` names."""

    name = "current"
    victim = "pod"
    way_down = (
        f"`kubectl delete namespace {NAMESPACE}`, then `helm uninstall {install.RELEASE} "
        f"--namespace {install.NAMESPACE}`, take away what the demo put there"
    )

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
        try:
            name_and_tag(os.environ["OPERATOR_IMAGE"])
        except DevClusterError as error:
            raise UnusableClusterError(f"OPERATOR_IMAGE: {error}") from error
        self.kube = Kube(
            ["kubectl"],
            ["helm"],
            Path(os.environ["KUBECONFIG"]),
            Path.home() / ".kube" / "cache",
        )

    def up(self) -> None:
        """Check that the cluster answers."""
        with stage("Reach the cluster that KUBECONFIG names"):
            self.kube.run("get", "--raw", "/readyz")

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
