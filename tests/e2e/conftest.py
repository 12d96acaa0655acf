"""Fixtures of the end-to-end layer: a real cluster with two nodes that can really die.

``cluster``  ``rtj_devcluster.cluster.Cluster``, one per test session, in good order at the start
             of the session: ``kubectl``, ``get``, ``kubeconfig``, ``kill_node``, ``partition``,
             ``heal``, ``drain``, ``delete_node``, ``add_node``. A test that breaks a node mends
             it. ``RTJ_CLUSTER=<name>`` uses the dev cluster of that name, and leaves it running;
             otherwise the session brings up its own and takes it down.
"""

import os
from collections.abc import Iterator

import pytest
from rtj_devcluster.cluster import Cluster, ClusterOptions


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    kept = os.environ.get("RTJ_CLUSTER")
    cluster = Cluster(kept or "e2e")
    try:
        # A cluster that is there already keeps its options.
        cluster.up(None if cluster.exists else ClusterOptions(nodes=2, gpus_per_node=1))
        yield cluster
    finally:
        if not kept:
            cluster.down()
