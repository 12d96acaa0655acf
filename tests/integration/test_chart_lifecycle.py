"""A release from install to uninstall, and what becomes of the CRD and the jobs on the way."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rtj_api import crd
from rtj_devcluster import kubebox
from rtj_devcluster.control_plane import ControlPlane

from tests.integration.crd_install import wait_until_served

pytestmark = pytest.mark.integration

CHART = Path(__file__).parents[2] / "charts" / "rtj-operator"
JOB = {
    "apiVersion": "resumable.training/v1alpha1",
    "kind": "ResumableTrainingJob",
    "metadata": {"name": "job"},
    "spec": {
        "totalSteps": 1,
        "builder": {},
        "checkpoint": {"claimName": "work"},
        "trainer": {"image": "i"},
    },
}


class Cluster:
    """An API server of its own, since the CRD comes and goes with the release."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def run(self, tool: str, *args: str, stdin: str | None = None) -> str:
        """Run kubectl or helm; it must succeed."""
        done = self._call(tool, *args, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fail(self, tool: str, *args: str) -> str:
        """Run kubectl or helm, which must fail; return its words."""
        done = self._call(tool, *args)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def _call(
        self, tool: str, *args: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubebox.binary(tool), f"--kubeconfig={self._kubeconfig}", *args],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def upgrade(self, chart: Path, *values: str) -> None:
        """Install or upgrade the release `train` and wait until the CRD is served."""
        self.run("helm", "upgrade", "--install", "train", str(chart), "--set=replicas=0", *values)
        wait_until_served(self._kubeconfig)

    def has_crd(self) -> bool:
        """Return whether the CRD is there and not on its way out."""
        found = self.run("kubectl", "get", "crd", crd.NAME, "--ignore-not-found", "-o", "json")
        return bool(found) and "deletionTimestamp" not in json.loads(found)["metadata"]

    def owner(self) -> str:
        """Return the release that the CRD belongs to."""
        release = r"jsonpath={.metadata.annotations.meta\.helm\.sh/release-name}"
        return self.run("kubectl", "get", "crd", crd.NAME, "-o", release)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The API server."""
    with ControlPlane(f"chart-{os.getpid()}") as control_plane:
        yield Cluster(control_plane.kubeconfig)


@pytest.fixture
def bare(cluster: Cluster) -> Iterator[Cluster]:
    """The API server with neither a release nor the CRD, before and after."""

    def clear() -> None:
        cluster.run("helm", "uninstall", "train", "--ignore-not-found")
        cluster.run("helm", "uninstall", "second", "--namespace=kube-public", "--ignore-not-found")
        cluster.run("kubectl", "delete", "crd", crd.NAME, "--ignore-not-found")

    clear()
    yield cluster
    clear()


@pytest.fixture
def older_chart(tmp_path: Path) -> Path:
    """A chart whose CRD does not have spec.seed yet."""
    chart = tmp_path / "rtj-operator"
    shutil.copytree(CHART, chart)
    file = chart / "files" / f"{crd.NAME}.yaml"
    text = file.read_text()
    start = text.index("              seed:\n")
    file.write_text(text[:start] + text[text.index("              epochs:\n") :])
    return chart


def test_the_crd_is_upgraded_with_the_release_and_outlives_it_with_the_jobs(
    cluster: Cluster, older_chart: Path
) -> None:
    cluster.upgrade(older_chart)
    cluster.run("kubectl", "apply", "--filename=-", stdin=json.dumps(JOB))
    assert "seed" not in cluster.run("kubectl", "get", "rtj", "job", "-o", "json")

    cluster.upgrade(CHART)
    seed = ("get", "crd", crd.NAME, "-o", "jsonpath={..spec.properties.seed.description}")
    assert "random generator" in cluster.run("kubectl", *seed)

    cluster.run("helm", "uninstall", "train")
    assert cluster.has_crd()
    assert "resumabletrainingjob.resumable.training/job" in cluster.run(
        "kubectl", "get", "rtj", "-o", "name"
    )

    cluster.upgrade(CHART)
    assert cluster.run("kubectl", "get", "rtj", "job", "-o", "jsonpath={.spec.totalSteps}") == "1"


def test_the_crd_goes_with_the_release_when_that_was_asked_for(cluster: Cluster) -> None:
    cluster.upgrade(CHART, "--set=crds.keep=false")
    cluster.run("helm", "uninstall", "train", "--wait")
    assert not cluster.has_crd()


SECOND = ("install", "second", str(CHART), "--set=replicas=0", "--namespace=kube-public")


def documented(flag: str) -> str:
    """Return a flag of Helm that the chart's values tell of."""
    assert re.search(rf"`[^`]*{flag}`", (CHART / "values.yaml").read_text())
    return flag


def test_a_kept_crd_becomes_another_releases_by_the_documented_step(bare: Cluster) -> None:
    bare.upgrade(CHART)
    bare.run("helm", "uninstall", "train")
    assert "invalid ownership metadata" in bare.fail("helm", *SECOND)
    bare.run("helm", *SECOND, documented("--take-ownership"))
    assert bare.owner() == "second"


def test_an_older_crd_by_kubectl_becomes_a_releases_by_the_documented_step(
    bare: Cluster, older_chart: Path
) -> None:
    older = older_chart / "files" / f"{crd.NAME}.yaml"
    bare.run("kubectl", "apply", f"--filename={older}")
    own = documented("--take-ownership")
    assert "kubectl-client-side-apply" in bare.fail("helm", *SECOND, own)
    bare.run("helm", "uninstall", "second", "--namespace=kube-public")
    bare.run("helm", *SECOND, own, documented("--force-conflicts"))
    assert bare.owner() == "second"


@pytest.mark.parametrize("keep", [True, False])
def test_a_release_that_gives_the_crd_up_deletes_it_unless_it_is_kept(
    bare: Cluster, keep: bool
) -> None:
    bare.upgrade(CHART, f"--set=crds.keep={json.dumps(keep)}")
    give_up = ("--set=replicas=0", "--set=crds.enabled=false")
    bare.run("helm", "upgrade", "train", str(CHART), *give_up)
    assert bare.has_crd() is keep


def test_a_second_release_without_the_crd_leaves_it_to_the_first(bare: Cluster) -> None:
    bare.upgrade(CHART, "--set=watchNamespaces={default}")
    bare.run("helm", *SECOND, "--set=crds.enabled=false", "--set=watchNamespaces={kube-public}")
    bare.run("helm", "uninstall", "second", "--namespace=kube-public")
    assert bare.owner() == "train"
