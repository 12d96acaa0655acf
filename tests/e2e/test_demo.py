"""The demo itself: real flights, the death of a node, the same weights."""

import pytest
from rtj_demo.dev import DevCluster
from rtj_demo.story import tell

from tests.e2e.support import own_cluster

pytestmark = pytest.mark.e2e


def test_the_demo_keeps_what_it_promises() -> None:
    with own_cluster("story") as cluster:
        tell(DevCluster(cluster.name))
