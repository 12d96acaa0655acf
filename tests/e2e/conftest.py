"""Fixtures of the end-to-end layer: a real cluster with two nodes that can really die.

``cluster``  ``rtj_devcluster.cluster.Cluster``, one per worker process, in good order at the start
             of the session: ``kubectl``, ``get``, ``kubeconfig``, ``kill_node``, ``partition``,
             ``heal``, ``drain``, ``delete_node``, ``add_node``. A test that breaks a node mends
             it. ``RTJ_CLUSTER=<name>`` uses the dev cluster of that name, and leaves it running;
             otherwise each worker brings up its own and takes it down. Two runs at once do not
             share a cluster: the later one fails.
``kube``      kubectl and helm on that cluster, as the demo has them.
``operator``  both images are built and on the nodes, and the chart is installed, once. After the
             whole layer, the rights of the chart are compared with those that were used.
``namespace`` name of a namespace made for this one test, and deleted after it.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from rtj_demo.dev import build_images, kube_of
from rtj_demo.install import install_operator
from rtj_demo.kube import Kube
from rtj_devcluster import slots
from rtj_devcluster.cluster import Cluster, ClusterOptions
from xdist.remote import Producer

from tests.e2e import rights, shares

NODE_LEASE_SECONDS = 20
"""Half of upstream's, so that kubelets renew it every 5 s. With upstream's 10 s, one that is 2 s
late reaches the operator's limit, and on two busy cores a healthy node would be lost."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> shares.Scheduler:
    return shares.Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    shares.sort(items)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of this test run, the same for all of its workers."""
    mine = tmp_path_factory.getbasetemp()
    return mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine


@pytest.fixture(scope="session", autouse=True)
def rights_in_use(request: pytest.FixtureRequest, shared: Path) -> Iterator[None]:
    """Compare what the workers found; it ends after `operator`, since it begins before."""
    yield
    if rights.whole_layer(request.session):
        rights.compare_unused(shared)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    kept = os.environ.get(rights.KEPT_CLUSTER)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    cluster = Cluster(kept or (f"e2e-{worker}" if worker else "e2e"))
    with slots.in_use(cluster.name, ", or set RTJ_CLUSTER to the name of another cluster"):
        try:
            if not kept:
                cluster.down()  # A run that was killed left it, with whatever it had broken there.
            # A cluster that is there already keeps its options.
            options = ClusterOptions(
                nodes=2, gpus_per_node=1, audit=True, node_lease_seconds=NODE_LEASE_SECONDS
            )
            cluster.up(None if cluster.exists else options)
            yield cluster
        finally:
            if not kept:
                cluster.down()


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Kube:
    return kube_of(cluster)


@pytest.fixture(scope="session")
def operator(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    kube: Kube,
    shared: Path,
) -> Iterator[None]:
    rights.expect(cluster, shared)
    images = build_images()
    cluster.sync_images()
    install_operator(kube, images)
    yield
    if rights.whole_layer(request.session) and not request.session.testsfailed:
        rights.compare(cluster, kube, shared)


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    kube.run("create", "namespace", name)
    yield name
    kube.run("delete", "namespace", name, "--wait=false")
