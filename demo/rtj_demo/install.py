"""Install the operator as a user does: `helm install` of the chart in this repository."""

from pathlib import Path

from rtj_devcluster.build import name_and_tag

from rtj_demo.clusters import Images
from rtj_demo.kube import Kube

CHART = Path(__file__).parents[2] / "charts" / "rtj-operator"
NAMESPACE = "rtj-system"
RELEASE = "rtj"


def install_operator(kube: Kube, images: Images) -> None:
    """Install or upgrade the release, and wait until its Deployment is available.

    Args:
        kube: The cluster.
        images: The images that its nodes know.
    """
    repository, tag = name_and_tag(images.operator)
    assignments = {
        "image.repository": repository,
        "image.tag": tag,
        # Rolls the pods when the image was built again under its old tag.
        "podAnnotations.image-digest": images.operator_digest,
    }
    kube.run_helm(
        *("upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE),
        *("--create-namespace", "--wait", "--timeout", "120s"),
        *(f"--set-string={name}={value}" for name, value in assignments.items()),
    )
