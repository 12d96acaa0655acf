"""Install the operator as a user does: `helm install` of the chart in this repository."""

from pathlib import Path

from rtj_demo.kube import Kube

CHART = Path(__file__).parents[2] / "charts" / "rtj-operator"
NAMESPACE = "rtj-system"
RELEASE = "rtj"


def install_operator(kube: Kube, image: str, *settings: str) -> None:
    """Install or upgrade the release, and wait until its Deployment is available.

    Args:
        kube: The cluster.
        image: Full name of the operator image, with its tag.
        settings: Further `--set` assignments, such as `replicas=2`.
    """
    repository, _, tag = image.rpartition(":")
    assignments = [f"image.repository={repository}", f"image.tag={tag}", *settings]
    kube.run_helm(
        *("upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE),
        *("--create-namespace", "--wait", "--timeout", "120s"),
        *(word for assignment in assignments for word in ("--set", assignment)),
    )
