"""At the end of the whole layer: which rights were used, on real clusters, and which were not."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rtj_demo.install import NAMESPACE, RELEASE
from rtj_demo.kube import Kube
from rtj_devcluster.cluster import Cluster
from rtj_devcluster.control_plane import ControlPlane

from tests.integration import audit

KEPT_CLUSTER = "RTJ_CLUSTER"
UNUSED_WITH_REASON = {
    ("patch", "leases"): "nobody can grant what they do not have, and trainers patch theirs",
    ("get", "pods"): "only where a pod's name is taken already",
    ("delete", "resumabletrainingjobs"): "only where ttlSecondsAfterFinished is set",
    ("list", "events"): "only where a pod waits for a ReadWriteOnce volume",
}
"""tests/integration/test_chart_operator.py makes all but the first happen."""


def whole_layer(session: pytest.Session) -> bool:
    """Whether every file of the layer was asked for, without a filter."""
    files = {item.path for item in session.items}
    there = set(Path(__file__).parent.glob("test_*.py"))
    return there <= files and not session.config.option.keyword


def log_lines(cluster: Cluster) -> Iterator[str]:
    """Return the lines of the API server's audit log that are about service accounts."""
    folder = ControlPlane(cluster.name).log("audit").parent
    for path in folder.glob("audit*.log"):  # It is rotated at 100 MB.
        with path.open() as log:
            yield from (line for line in log if '"system:serviceaccount:' in line)


def expect(cluster: Cluster, shared: Path) -> None:
    """Note that there will be a list of this cluster, unless a test fails."""
    (shared / f"expected-{cluster.name}").touch()


def compare(cluster: Cluster, kube: Kube, shared: Path) -> None:
    """Assert that nothing was done without a right, and leave the list of rights without a use.

    Some workers of the test run have a cluster, and take their shares of the tests: what is unused
    must be so in all, so each leaves its list in the shared folder. Only a kept cluster may be
    without an audit log; then nothing is asserted.
    """
    uses = audit.used(log_lines(cluster))
    if not uses and KEPT_CLUSTER in os.environ:
        return
    assert uses, f"the audit log of cluster {cluster.name} tells of no service account"
    manifests = kube.run_helm("get", "manifest", RELEASE, "--namespace", NAMESPACE)
    objects: list[dict[str, Any]] = [o for o in yaml.safe_load_all(manifests) if o]
    ((account, grants),) = audit.granted(objects).items()
    assert audit.missing(uses[account], grants) == []
    unused = [(right.verb, right.resource) for right in audit.unused(uses[account], grants)]
    (shared / f"unused-{cluster.name}.json").write_text(json.dumps(unused))
    for user, done in uses.items():
        _, _, namespace, name = user.split(":")
        if namespace.startswith("test-") and name.endswith("-trainer"):
            assert audit.missing(done, trainers_rights(namespace, name)) == [], user


def compare_unused(shared: Path) -> None:
    """Called at the end of each worker: the last asserts that each right was used somewhere.

    Nothing is known of that where a worker has left no list, so then it fails.
    """
    (shared / f"ended-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}").touch()
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if len(list(shared.glob("ended-*"))) < workers:
        return
    lists = [json.loads(found.read_text()) for found in shared.glob("unused-*.json")]
    if not lists and KEPT_CLUSTER in os.environ:
        return
    expected = len(list(shared.glob("expected-*")))
    assert expected, "no test used the fixture `operator`"
    assert len(lists) == expected, (
        f"of {expected} clusters, {len(lists)} told which rights of the chart were not used: in "
        "the others a test failed"
    )
    everywhere = set.intersection(*({(verb, what) for verb, what in one} for one in lists))
    left = sorted(everywhere - UNUSED_WITH_REASON.keys())
    assert not left, f"rights of the chart that no test used, and without a reason: {left}"


def trainers_rights(namespace: str, account: str) -> list[audit.Access]:
    """Return what a trainer may do: its own Lease and nothing else."""
    job = account.removesuffix("-trainer")
    verbs = ("get", "update", "patch")
    group = "coordination.k8s.io"
    return [audit.Access(verb, group, "leases", namespace, job) for verb in verbs]
