"""Install the operator as a user does: `helm install` of the chart in this repository."""

import json
from pathlib import Path

from rtj_api import crd
from rtj_devcluster.build import name_and_tag

from rtj_demo.clusters import Images, Release
from rtj_demo.kube import PULL_SECONDS, Kube

CHART = Path(__file__).parents[2] / "charts" / "rtj-operator"
NAMESPACE = "rtj-system"
RELEASE = "rtj"
EVERYWHERE = Release(RELEASE, NAMESPACE)
"""As README says it for a cluster of one's own."""


def install_operator(kube: Kube, images: Images, release: Release = EVERYWHERE) -> None:
    """Install or upgrade the release, and wait until its Deployment is available.

    Args:
        kube: The cluster.
        images: The images that its nodes know.
        release: What to install, and where.
    """
    assignments = {
        **_image_values(images.operator),
        # Rolls the pods when the image was built again under its old tag.
        "podAnnotations.image-digest": images.operator_digest,
    }
    kube.run_helm(
        *("upgrade", "--install", release.name, str(CHART), "--namespace", release.namespace),
        *("--create-namespace", "--wait", "--timeout", f"{PULL_SECONDS}s"),
        *(f"--set-string={name}={value}" for name, value in assignments.items()),
        *(_beside_others(kube, release) if release.jobs_in else ()),
    )


def _image_values(image: str) -> dict[str, str]:
    """Return the chart's values for an image, of which a digest wins over a tag as for nodes."""
    name, _, digest = image.partition("@")
    repository, tag = name_and_tag(name)
    return {"image.repository": repository, "image.tag": tag, "image.digest": digest}


def _beside_others(kube: Kube, release: Release) -> list[str]:
    """Return what keeps a release to its one namespace: a CRD that is there is not touched."""
    found = kube.run("get", "crd", crd.NAME, "--ignore-not-found", "-o", "json")
    owner = json.loads(found)["metadata"].get("annotations", {}) if found else {}
    own = (
        owner.get("meta.helm.sh/release-name") == release.name
        and owner.get("meta.helm.sh/release-namespace") == release.namespace
    )
    brings_crd = "true" if own or not found else "false"
    return [
        f"--set-string=watchNamespaces={{{release.jobs_in}}}",
        f"--set=crds.enabled={brings_crd}",
        "--set=rbac.aggregateClusterRoles=false",
    ]
