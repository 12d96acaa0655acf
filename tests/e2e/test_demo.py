"""The demo itself: real flights, the death of a node, the same weights."""

import pytest
from rtj_demo.dev import DevCluster
from rtj_demo.story import tell
from rtj_devcluster.cluster import Cluster

pytestmark = pytest.mark.e2e


def test_the_demo_keeps_what_it_promises(cluster: Cluster) -> None:
    tell(DevCluster(cluster.name))
