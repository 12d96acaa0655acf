"""A cluster by its command line alone, from nothing to nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rtj_devcluster import processes
from rtj_devcluster.cluster import Cluster
from rtj_devcluster.shell import wait_until

from tests.e2e.support import own_cluster
from tests.e2e.test_devcluster_lifecycle import addresses_of, traces_of

pytestmark = pytest.mark.e2e

NAME = "by-hand"


@pytest.fixture
def own() -> Iterator[Cluster]:
    with own_cluster(NAME) as cluster:
        yield cluster


def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rtj_devcluster", "--name", NAME, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def told(*arguments: str) -> str:
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def power() -> dict[str, str]:
    """Return whether each node is on, as `status` shows it."""
    rows = [line.split("│") for line in told("status").splitlines() if "node-" in line]
    return {row[1].strip(): row[2].strip() for row in rows}


def unready() -> set[str]:
    lines = told("kubectl", "get", "nodes", "--no-headers").splitlines()
    return {line.split()[0] for line in lines if line.split()[1] != "Ready"}


def test_every_command_does_what_its_help_says(own: Cluster) -> None:
    told("up", "--nodes", "1", "--gpus-per-node", "1")
    told("up", "--nodes", "2")  # The rest stays as it is.
    assert power() == {"node-1": "on", "node-2": "on"}
    refused = call("up", "--audit")
    assert refused.returncode == 1
    assert "made with gpus-per-node 1, audit off" in refused.stderr
    assert Path(told("kubeconfig").strip()) == own.kubeconfig

    assert told("kubectl", "get", "nodes", "-o", "name").split() == ["node/node-1", "node/node-2"]

    told("partition", "node-2")
    assert power()["node-2"] == "partitioned"
    told("heal", "node-2")
    assert power()["node-2"] == "on"

    told("drain", "node-2")
    assert unready() == {"node-2"}
    told("add-node", "node-2")
    assert unready() == set()

    told("kill-node", "node-2")
    assert power() == {"node-1": "on", "node-2": "off"}
    told("delete-node", "node-2")
    assert power() == {"node-1": "on"}
    told("up")
    assert power() == {"node-1": "on"}
    told("add-node")
    assert power() == {"node-1": "on", "node-2": "on"}
    refused = call("up", "--nodes", "1")
    assert refused.returncode == 1
    assert "delete-node" in refused.stderr

    unheard = "the API server does not answer"
    wait_until(lambda: unheard not in told("status"), what="the API server is heard", timeout=60)
    api_server = processes.recorded(own.folder / "run" / "kube-apiserver.json")
    assert api_server is not None
    processes.kill([api_server])
    assert unheard in told("status")
    assert power() == {"node-1": "on", "node-2": "on"}

    addresses = addresses_of(own)
    told("down")
    assert traces_of(own, addresses) == {}


@pytest.mark.parametrize("command", ["status", "kubeconfig", "kubectl", "kill-node node-1"])
def test_without_a_cluster_a_command_says_how_to_have_one(own: Cluster, command: str) -> None:
    refused = call(*command.split())
    assert refused.returncode == 1
    assert f"start it with devcluster --name {NAME} up" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not refused.stdout
