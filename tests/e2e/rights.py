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

UNUSED_WITH_REASON = {
    ("patch", "leases"): "nobody can grant what they do not have, and trainers patch theirs",
    ("get", "pods"): "only where a pod's name is taken already",
    ("delete", "resumabletrainingjobs"): "only where ttlSecondsAfterFinished is set",
    ("list", "events"): "only where a pod waits for a ReadWriteOnce volume",
}
"""tests/integration/test_chart_operator.py makes all but the first happen."""


def whole_layer_ran(session: pytest.Session) -> bool:
    """Whether every file of the layer was asked for, without a filter, and nothing failed."""
    files = {item.path for item in session.items}
    there = set(Path(__file__).parent.glob("test_*.py"))
    return there <= files and not session.config.option.keyword and not session.testsfailed


def log_lines(cluster: Cluster) -> Iterator[str]:
    """Return the lines of the API server's audit log that are about service accounts."""
    folder = ControlPlane(cluster.name).log("audit").parent
    for path in folder.glob("audit*.log"):  # It is rotated at 100 MB.
        with path.open() as log:
            yield from (line for line in log if '"system:serviceaccount:' in line)


def compare(cluster: Cluster, kube: Kube, shared: Path) -> None:
    """Assert that rights and uses are the same; nothing is asserted without an audit log.

    Each worker of the test run has a cluster, and takes its share of the tests: what is unused must
    be so in all, so each leaves its list in the shared folder, and the last one compares.
    """
    uses = audit.used(log_lines(cluster))
    if not uses:
        return
    manifests = kube.run_helm("get", "manifest", RELEASE, "--namespace", NAMESPACE)
    objects: list[dict[str, Any]] = [o for o in yaml.safe_load_all(manifests) if o]
    ((account, grants),) = audit.granted(objects).items()
    assert audit.missing(uses[account], grants) == []
    unused = [(right.verb, right.resource) for right in audit.unused(uses[account], grants)]
    (shared / f"unused-{cluster.name}.json").write_text(json.dumps(unused))
    lists = [json.loads(found.read_text()) for found in shared.glob("unused-*.json")]
    if len(lists) == int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")):
        everywhere = set.intersection(*({(verb, what) for verb, what in one} for one in lists))
        assert everywhere <= UNUSED_WITH_REASON.keys()
    for user, done in uses.items():
        _, _, namespace, name = user.split(":")
        if namespace.startswith("test-") and name.endswith("-trainer"):
            assert audit.missing(done, trainers_rights(namespace, name)) == [], user


def trainers_rights(namespace: str, account: str) -> list[audit.Access]:
    """Return what a trainer may do: its own Lease and nothing else."""
    job = account.removesuffix("-trainer")
    verbs = ("get", "update", "patch")
    group = "coordination.k8s.io"
    return [audit.Access(verb, group, "leases", namespace, job) for verb in verbs]
