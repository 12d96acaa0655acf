"""A dev cluster comes up after any crash, and goes without a trace after any crash."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rtj_devcluster import cgroups, network, slots
from rtj_devcluster.addresses import Addresses
from rtj_devcluster.cluster import Cluster, ClusterOptions
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.paths import state_root
from rtj_devcluster.shell import run, wait_until

from tests.e2e.support import own_cluster

pytestmark = pytest.mark.e2e

HOST_SETTINGS = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
IDLE_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "idle"},
    "spec": {"containers": [{"name": "pause", "image": "docker.io/library/rtj-pause:1"}]},
}

INTERRUPTED = """
import sys
from pathlib import Path
from rtj_demo import __main__ as demo
from rtj_demo.dev import DevCluster
from rtj_devcluster.build import build

class Building(DevCluster):
    def provide_images(self):
        build("localhost/rtj-interrupted:1", folder / "Dockerfile", folder)

folder = Path(sys.argv.pop())
cluster = Building("lifecycle")
cluster.name = "interrupted"  # The test that runs this uses the cluster.
demo.CLUSTERS["dev"] = lambda: cluster
sys.exit(demo.main())
"""
"""The demo, with another cluster and another image to build."""


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A cluster of this test's own, gone when it ends."""
    with own_cluster("lifecycle") as cluster:
        yield cluster


def host_settings() -> dict[str, str]:
    return {name: Path(f"/proc/sys/{name}").read_text() for name in HOST_SETTINGS}


def processes_of(cluster: Cluster) -> set[int]:
    """Return every process that has to do with a cluster: by command, mounts, or cgroup."""
    marks = [str(cluster.folder).encode() + b"/", f"{cgroups.path_of(cluster.folder)}/".encode()]
    # /proc/<pid>/mountinfo names a folder relative to its file system, which here is the root.
    return {
        pid
        for pid in (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
        if pid != os.getpid() and any(mark in text for text in _texts_of(pid) for mark in marks)
    }


def _texts_of(pid: int) -> Iterator[bytes]:
    for name in ("cmdline", "mountinfo", "cgroup"):
        with contextlib.suppress(OSError):
            yield (Path("/proc") / str(pid) / name).read_bytes()


def traces_of(cluster: Cluster, addresses: Addresses) -> dict[str, object]:
    """Return all that a cluster left on this machine, by kind; empty when there is nothing."""
    nodes = str(addresses.node_network.network_address).rpartition(".")[0] + "."
    pods = f"10.{128 + addresses.slot}."
    links = [line for line in run(["ip", "-brief", "link"]).stdout.splitlines() if line]
    routes = run(["ip", "route", "show", "table", "all"]).stdout.splitlines()
    found: dict[str, object] = {
        "processes": processes_of(cluster),
        "mounts": [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if str(cluster.folder) in line
        ],
        "links": [line for line in links if line.startswith(addresses.bridge)],
        "routes": [line for line in routes if nodes in line or pods in line],
        # os.walk, since the groups of another cluster may go away meanwhile.
        "cgroups": [
            parent
            for parent, _, _ in os.walk("/sys/fs/cgroup")
            if parent.endswith(cgroups.path_of(cluster.folder))
        ],
        "firewall": [
            line
            for line in run(["iptables-save"]).stdout.splitlines()
            if f'devcluster {addresses.bridge}"' in line
        ],
        "folder": [cluster.folder] if cluster.folder.exists() else [],
        "slot": slots.of_cluster(cluster.name),
    }
    return {kind: what for kind, what in found.items() if what}


def addresses_of(cluster: Cluster) -> Addresses:
    slot = slots.of_cluster(cluster.name)
    assert slot is not None
    return slot.addresses


def start_pod(cluster: Cluster) -> None:
    wait_until(
        lambda: bool(cluster.kubectl("get", "serviceaccounts", "-o", "name")),
        what="the default service account",
        timeout=30,
    )
    cluster.kubectl("create", "-f", "-", text_input=json.dumps(IDLE_POD))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/idle", "--timeout=120s")


def network_namespaces() -> set[str]:
    folder = Path("/run/netns")
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def sigkill_everything(cluster: Cluster) -> None:
    """Kill every process of a cluster, again and again until none is left."""

    def kill_what_is_there() -> bool:
        left = processes_of(cluster)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_until(kill_what_is_there, what="every process of the cluster is dead", timeout=30)


def test_down_leaves_nothing_and_the_host_is_as_it_was(own: Cluster) -> None:
    settings, namespaces = host_settings(), network_namespaces()
    own.up(ClusterOptions(nodes=2))
    addresses = addresses_of(own)
    start_pod(own)
    present = traces_of(own, addresses)
    # What the test looks for is there as long as the cluster is; mounts are in its nodes only.
    expected = {"processes", "links", "routes", "cgroups", "firewall", "folder", "slot"}
    assert set(present) == expected

    own.down()

    assert traces_of(own, addresses) == {}
    assert host_settings() == settings
    assert not {name for name in network_namespaces() - namespaces if "rtj" in name}
    own.down()  # Nothing is there, and that is no error.


def test_up_mends_a_cluster_whose_every_process_was_killed(own: Cluster) -> None:
    own.up(ClusterOptions(nodes=1))
    start_pod(own)
    own.kubectl("create", "configmap", "kept", "--from-literal=a=b")

    sigkill_everything(own)
    own.up()

    assert own.get("configmap", "kept")["data"] == {"a": "b"}
    own.kubectl("delete", "pod", "idle", "--grace-period=1", "--timeout=60s")
    start_pod(own)


def test_down_clears_a_cluster_whose_every_process_was_killed(own: Cluster) -> None:
    own.up(ClusterOptions(nodes=1))
    start_pod(own)
    addresses = addresses_of(own)

    sigkill_everything(own)
    own.down()

    assert traces_of(own, addresses) == {}


@pytest.mark.parametrize("moment", ["run/etcd.json", "kubeconfig", "nodes/node-1/node.json"])
def test_an_up_that_is_killed_leaves_what_up_and_down_can_deal_with(
    own: Cluster, moment: str
) -> None:
    program = "from rtj_devcluster.cluster import *; Cluster('lifecycle').up(ClusterOptions(1))"
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as starter:

        def come() -> bool:
            there = (own.folder / moment).exists()
            assert there or starter.poll() is None, f"up ended without {moment}"
            return there

        wait_until(come, what=f"{moment} is there", timeout=300, every=0)
        starter.kill()
    addresses = addresses_of(own)

    if moment.startswith("nodes"):
        own.up()
        start_pod(own)
    own.down()

    assert traces_of(own, addresses) == {}


def test_a_part_that_ends_while_it_starts_is_named_with_its_log(own: Cluster) -> None:
    addresses = slots.take(own.name).addresses
    network.create_bridge(addresses)
    with socket.create_server((addresses.gateway, 53)), pytest.raises(DevClusterError) as told:
        own.up(ClusterOptions(nodes=1))
    assert "coredns ended while it started" in str(told.value)
    assert "address already in use" in str(told.value)

    own.up()
    assert [node.ready for node in own.status()] == [True]


def test_an_interrupted_demo_takes_down_its_cluster_and_its_build(
    own: Cluster, tmp_path: Path
) -> None:
    mark = f"sleep 300.{os.getpid()}"
    (tmp_path / "Dockerfile").write_text(f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nRUN {mark}\n")
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        try:
            wait_until(lambda: running(mark), what="the build is under way", timeout=300)
            addresses = addresses_of(own)
            demo.terminate()
            assert demo.stdout is not None
            assert demo.stdout.readline() == "Interrupted.\n"
            demo.send_signal(signal.SIGINT)  # By somebody who has no patience.
            demo.wait(timeout=120)
        finally:
            demo.kill()

    assert demo.returncode == 130
    assert not running(mark)
    assert traces_of(own, addresses) == {}


def running(words: str) -> bool:
    """Say whether a program runs with these words as its command."""
    mark = "\0".join(words.split()).encode() + b"\0"
    pids = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return any(mark == next(_texts_of(pid), b"") for pid in pids)


def test_the_command_line_says_what_is_missing_without_a_traceback() -> None:
    command = [sys.executable, "-m", "rtj_devcluster", "--name", "no-such-cluster", "status"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "there is no cluster 'no-such-cluster'" in told.stderr
    assert "Traceback" not in told.stderr


def test_without_root_nothing_is_changed_and_the_error_says_what_is_needed() -> None:
    # In a user namespace of its own it is nobody, but can read what root can.
    command = ["unshare", "--user", sys.executable, "-m", "rtj_devcluster", "--name", "lifecycle"]
    told = subprocess.run([*command, "up"], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "needs root" in told.stderr
    assert not (state_root() / "lifecycle").exists()
