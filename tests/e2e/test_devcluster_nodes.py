"""The dev cluster is a Kubernetes like any other, and its nodes die like any others."""

import json
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from rtj_devcluster import build, cgroups, kubebox, processes, slots
from rtj_devcluster.cluster import Cluster, ClusterOptions
from rtj_devcluster.errors import CommandFailedError
from rtj_devcluster.shell import run, wait_until

from tests.e2e.support import own_cluster

pytestmark = pytest.mark.e2e

IMAGE = "docker.io/library/rtj-devcluster-test:1"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.fixture(scope="module")
def image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nUSER 65532:65532\n")
    build.build(IMAGE, folder / "Dockerfile", folder)
    cluster.sync_images()
    return IMAGE


class Pods:
    """Pods, claims and services in one namespace that holds them to the restricted standard."""

    def __init__(self, cluster: Cluster, image: str, namespace: str) -> None:
        self.cluster = cluster
        self.image = image
        self.namespace = namespace

    def kubectl(self, *arguments: str, text_input: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, text_input=text_input)

    def create(self, kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> None:
        document = {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": name, **metadata},
            "spec": spec,
        }
        self.kubectl("create", "-f", "-", text_input=json.dumps(document))

    def claim(self, name: str) -> None:
        request = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        self.create("PersistentVolumeClaim", name, request)

    def start(
        self,
        name: str,
        script: str,
        *,
        node: str = "",
        claim: str = "",
        gpus: int = 0,
        port: int = 0,
    ) -> None:
        """Start a pod; with a port, it is Ready once it listens there."""
        container: dict[str, Any] = {
            "name": "main",
            "image": self.image,
            "command": ["python3", "-u", "-c", script],
            "securityContext": RESTRICTED,
        }
        spec: dict[str, Any] = {
            "containers": [container],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
        if node:
            spec["nodeSelector"] = {"kubernetes.io/hostname": node}
        if claim:
            container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
            spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        if port:
            container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
        if gpus:
            container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
        self.create("Pod", name, spec, labels={"app": name})

    def await_ready(self, *names: str) -> None:
        pods = [f"pod/{name}" for name in names]
        self.kubectl("wait", "--for=condition=Ready", *pods, "--timeout=120s")

    def folder(self, claim: str) -> Path:
        """Return the claim's folder on this machine."""
        volume = json.loads(self.kubectl("get", "pvc", claim, "-o", "json"))["spec"]["volumeName"]
        return Path(self.cluster.get("pv", volume)["spec"]["hostPath"]["path"])


@pytest.fixture
def pods(cluster: Cluster, image: str) -> Iterator[Pods]:
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl(
        "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"
    )
    pods = Pods(cluster, image, namespace)
    wait_until(
        lambda: bool(pods.kubectl("get", "serviceaccounts", "-o", "name")),
        what="the namespace has its default service account",
        timeout=30,
    )
    yield pods
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def mended(cluster: Cluster) -> Iterator[None]:
    """Bring every node back, whatever the test did."""
    yield
    for node in cluster.node_names:
        cluster.add_node(node)


TICK = """
import time
while True:
    with open('/data/ticks', 'a') as file:
        print(time.time(), file=file)
    time.sleep(0.1)
"""
SERVE = """
import http.server
http.server.test(http.server.SimpleHTTPRequestHandler, port=8080, bind='0.0.0.0')
"""
FETCH = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5).status)
"""
IDLE = "import time; time.sleep(3600)"


def ticks(folder: Path) -> int:
    path = folder / "ticks"
    return path.read_text().count("\n") if path.exists() else 0


def ticking(folder: Path) -> Callable[[], bool]:
    """Return a condition: more was written since this call."""
    before = ticks(folder)
    return lambda: ticks(folder) > before


def test_pods_on_two_nodes_share_a_volume_and_reach_each_other_by_name(
    cluster: Cluster, pods: Pods
) -> None:
    first, second = cluster.node_names[:2]
    pods.claim("data")
    pods.start(
        "server",
        "open('/data/from-server', 'w').write('hello')\n" + SERVE,
        node=first,
        claim="data",
        port=8080,
    )
    pods.start("user", IDLE, node=second, claim="data")
    service = {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}
    pods.create("Service", "server", service)
    pods.await_ready("server", "user")

    read = pods.kubectl("exec", "user", "--", "cat", "/data/from-server")
    assert read == "hello"
    wait_until(
        lambda: service_answers(pods), what="the service answers on the other node", timeout=60
    )
    wait_until(
        lambda: '"GET / HTTP/1.1" 200' in pods.kubectl("logs", "server"),
        what="the request is in the log",
        timeout=60,
    )


def service_answers(pods: Pods) -> bool:
    """Say whether the pod ``user`` reaches the pod ``server`` by the name of its service."""
    url = f"http://server.{pods.namespace}.svc.cluster.local/"
    try:
        return "200" in pods.kubectl("exec", "user", "--", "python3", "-c", FETCH, url)
    except CommandFailedError:
        return False  # The endpoint may not have reached the node yet.


BRIDGE_FILTER = "/proc/sys/net/bridge/bridge-nf-call-iptables"


def test_a_service_answers_on_its_own_pods_node_without_br_netfilter(
    cluster: Cluster, pods: Pods
) -> None:
    node = cluster.node_names[0]
    pods.start("server", SERVE, node=node, port=8080)
    pods.start("user", IDLE, node=node)
    service = {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}
    pods.create("Service", "server", service)
    pods.await_ready("server", "user")
    if Path(BRIDGE_FILTER).exists():
        # As in a host that lacks the module: what crosses a bridge passes no translation.
        enter = ["nsenter", f"--net=/proc/{kubelet_pid(cluster, node)}/ns/net"]
        run([*enter, "sh", "-c", f"echo 0 > {BRIDGE_FILTER}"])

    wait_until(
        lambda: service_answers(pods), what="the service answers on the same node", timeout=60
    )


def test_a_port_forward_reaches_a_pod(pods: Pods) -> None:
    pods.start("server", SERVE, port=8080)
    pods.await_ready("server")
    command = [
        kubebox.binary("kubectl"),
        f"--kubeconfig={pods.cluster.kubeconfig}",
        *("-n", pods.namespace, "port-forward", "--address=127.0.0.1", "pod/server", ":8080"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        assert forward.stdout is not None
        try:
            url = f"http://{forward.stdout.readline().split()[2]}/"
            wait_until(lambda: fetched(url), what="the pod answers through it", timeout=60)
        finally:
            forward.terminate()


def fetched(url: str) -> bool:
    command = ["python3", "-c", FETCH, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() == "200"


def test_a_volume_goes_with_its_claim(pods: Pods) -> None:
    pods.claim("data")
    pods.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/data", "--timeout=30s")
    folder = pods.folder("data")
    assert folder.is_dir()

    pods.kubectl("delete", "pvc", "data")

    wait_until(lambda: not folder.exists(), what="the folder is gone", timeout=60)
    # The controller manager still has to take its finalizer off what was deleted.
    wait_until(
        lambda: not cluster_volumes(pods.cluster, folder), what="the volume is gone", timeout=60
    )


def cluster_volumes(cluster: Cluster, folder: Path) -> list[dict[str, Any]]:
    volumes = cluster.get("pv")["items"]
    return [volume for volume in volumes if volume["spec"]["hostPath"]["path"] == str(folder)]


def start_writer(pods: Pods, node: str) -> Path:
    """Start the pod `writer`, which ticks in the volume `data`; return the volume's folder."""
    pods.claim("data")
    pods.start("writer", TICK, node=node, claim="data")
    pods.await_ready("writer")
    return pods.folder("data")


@pytest.mark.usefixtures("mended")
def test_a_killed_node_is_silent_at_once_and_untouched_in_the_api_and_comes_back(
    cluster: Cluster, pods: Pods
) -> None:
    node = cluster.node_names[0]
    folder = start_writer(pods, node)
    wait_until(ticking(folder), what="the pod writes", timeout=20)

    hardware_address = bridge_address(cluster)
    cluster.kill_node(node)

    assert bridge_address(cluster) == hardware_address, "the other nodes have lost the API server"
    assert not pids_in_cgroup(cluster, node)
    written = ticks(folder)
    pod = json.loads(pods.kubectl("get", "pod", "writer", "-o", "json"))
    assert pod["status"]["phase"] == "Running"
    assert "deletionTimestamp" not in pod["metadata"]
    assert next(seen.power for seen in cluster.status() if seen.name == node) == "off"

    cluster.add_node(node)

    assert ticks(folder) == written
    pods.start("next", TICK, node=node, claim="data")
    pods.await_ready("next")
    wait_until(ticking(folder), what="a pod writes on the node that came back", timeout=20)


@pytest.mark.usefixtures("mended")
def test_a_node_that_was_killed_from_outside_gets_a_cable_of_its_own(cluster: Cluster) -> None:
    node = cluster.node_names[0]
    keeper = processes.recorded(cluster.folder / "nodes" / node / "node.json")
    assert keeper is not None
    # The kernel takes the old cable away some time after the node; here, not before this ends.
    with Path(f"/proc/{kubelet_pid(cluster, node)}/ns/net").open():
        processes.kill([keeper])
        cluster.add_node(node)
        wait_until(lambda: answers(cluster, node), what="the node answers", timeout=30)


def bridge_address(cluster: Cluster) -> str:
    """Return the hardware address under which nodes know the machine of the control plane."""
    host = json.loads(cluster.kubectl("config", "view", "-o", "json"))["clusters"][0]["cluster"]
    address = urlsplit(host["server"]).hostname
    links = json.loads(run(["ip", "-json", "address"]).stdout)
    return next(
        str(link["address"])
        for link in links
        if address in [each.get("local") for each in link["addr_info"]]
    )


def pids_in_cgroup(cluster: Cluster, node: str) -> list[int]:
    """Return the processes of a node's pods, as this machine numbers them."""
    wanted = f"{cgroups.path_of(cluster.folder)}/{node}"
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "cgroup").read_text():
                found.append(int(folder.name))
        except OSError:
            continue  # It ended while we looked.
    return found


def answers(cluster: Cluster, node: str) -> bool:
    """Say whether the node's kubelet can be reached over the network."""
    address = cluster.get("node", node)["status"]["addresses"][0]["address"]
    try:
        with socket.create_connection((address, 10250), timeout=1):
            return True
    except OSError:
        return False


@pytest.mark.usefixtures("mended")
def test_a_partitioned_node_keeps_writing_and_answers_again_after_healing(
    cluster: Cluster, pods: Pods
) -> None:
    node = cluster.node_names[1]
    folder = start_writer(pods, node)

    cluster.partition(node)

    wait_until(ticking(folder), what="the pod writes although it is cut off", timeout=20)
    assert not answers(cluster, node)
    assert next(seen.power for seen in cluster.status() if seen.name == node) == "partitioned"

    cluster.heal(node)

    wait_until(lambda: answers(cluster, node), what="the healed node answers", timeout=30)
    wait_until(ticking(folder), what="the same pod still writes", timeout=10)


@pytest.mark.usefixtures("mended")
def test_a_kubelet_that_is_killed_is_restarted_and_its_pods_live_on(
    cluster: Cluster, pods: Pods
) -> None:
    node = cluster.node_names[0]
    pods.start("idle", IDLE, node=node)
    pods.await_ready("idle")
    before = kubelet_pid(cluster, node)

    os.kill(before, signal.SIGKILL)

    wait_until(
        lambda: kubelet_pid(cluster, node) not in (0, before), what="a new kubelet", timeout=60
    )

    def same_pod_answers() -> bool:
        try:
            pods.kubectl("exec", "idle", "--", "true")
        except CommandFailedError:
            return False
        return True

    wait_until(same_pod_answers, what="the pod answers through the new kubelet", timeout=60)
    status = json.loads(pods.kubectl("get", "pod", "idle", "-o", "json"))["status"]
    assert status["containerStatuses"][0]["restartCount"] == 0


def kubelet_pid(cluster: Cluster, node: str) -> int:
    wanted = str(cluster.folder / "nodes" / node / "kubelet.json").encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"kubelet" in command.split(b"\0")[0] and wanted in command:
            return int(folder.name)
    return 0


@pytest.mark.usefixtures("mended")
def test_a_drained_node_is_empty_and_closed_until_it_is_added_again(
    cluster: Cluster, pods: Pods
) -> None:
    node = cluster.node_names[0]
    pods.start("idle", IDLE, node=node)
    pods.await_ready("idle")

    cluster.drain(node)

    assert pods.kubectl("get", "pods", "-o", "name") == ""
    assert cluster.get("node", node)["spec"]["unschedulable"] is True
    cluster.add_node(node)
    assert "unschedulable" not in cluster.get("node", node)["spec"]


def test_a_node_can_be_added_and_deleted(cluster: Cluster, pods: Pods) -> None:
    added = cluster.add_node()
    try:
        pods.start("idle", IDLE, node=added)
        pods.await_ready("idle")
    finally:
        cluster.delete_node(added)

    assert added not in cluster.node_names
    assert added not in [item["metadata"]["name"] for item in cluster.get("nodes")["items"]]


def test_two_clusters_side_by_side_do_not_know_each_other_and_gpus_are_scheduled(
    cluster: Cluster, image: str
) -> None:
    with own_cluster("beside") as other:
        other.up(ClusterOptions(nodes=1, gpus_per_node=2))
        mine, theirs = slots.of_cluster(cluster.name), slots.of_cluster(other.name)
        assert mine is not None
        assert theirs is not None
        assert mine.number != theirs.number
        other.kubectl("create", "configmap", "mark")
        with pytest.raises(CommandFailedError, match="NotFound"):
            cluster.kubectl("get", "configmap", "mark")

        wait_until(
            lambda: bool(other.kubectl("get", "serviceaccounts", "-o", "name")),
            what="the default service account",
            timeout=30,
        )
        pods = Pods(other, image, "default")
        pods.start("both", IDLE, gpus=2)
        pods.await_ready("both")
        pods.start("third", IDLE, gpus=1)
        pods.kubectl(
            "wait",
            "--for=jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}=Unschedulable",
            "pod/third",
            "--timeout=30s",
        )
    assert all(node.ready for node in cluster.status())
