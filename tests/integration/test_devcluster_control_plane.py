"""The control plane that the integration layer runs on is a real one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rtj_devcluster import processes, slots
from rtj_devcluster.control_plane import ControlPlane, clear_abandoned
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.shell import wait_until

from tests.integration.restricted import restrict

pytestmark = pytest.mark.integration

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "idle"},
    "spec": {"containers": [{"name": "idle", "image": "none"}]},
}


def own(name: str) -> str:
    """Return the name of a cluster that no other test run on this machine has."""
    return f"{name}-{os.getpid()}"


def test_a_dependent_is_garbage_collected_with_its_owner(
    kubectl: Callable[..., str], namespace: str
) -> None:
    kubectl("create", "configmap", "owner", "-n", namespace)
    owner = json.loads(kubectl("get", "configmap", "owner", "-n", namespace, "-o", "json"))
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
    }
    pod = {**POD, "metadata": {"name": "idle", "ownerReferences": [reference]}}
    kubectl("create", "-n", namespace, "-f", "-", text_input=json.dumps(pod))

    kubectl("delete", "configmap", "owner", "-n", namespace)

    kubectl("wait", "--for=delete", "pod/idle", "-n", namespace, "--timeout=120s")


def test_a_namespace_that_enforces_the_restricted_standard_refuses_an_unsafe_pod(
    kubectl: Callable[..., str], namespace: str
) -> None:
    restrict(kubectl, namespace)

    with pytest.raises(Exception, match="allowPrivilegeEscalation"):
        kubectl("create", "-n", namespace, "-f", "-", text_input=json.dumps(POD))


def test_a_control_plane_dies_with_the_process_that_started_it_and_its_rest_is_cleared() -> None:
    name = own("orphan")
    program = (
        "import time\n"
        "from rtj_devcluster.control_plane import ControlPlane\n"
        f"with ControlPlane({name!r}) as c:\n"
        "    print(c.kubeconfig, flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip()).parent
        started = [processes.recorded(record) for record in (folder / "run").glob("*.json")]
        assert len(started) == 3
        assert all(started)
        os.kill(owner.pid, signal.SIGKILL)

    wait_until(
        lambda: not any(process and process.alive() for process in started),
        what="etcd, API server and controller manager end with their owner",
        timeout=60,
    )
    clear_abandoned()
    assert not folder.exists()
    assert slots.of_cluster(name) is None


def test_two_control_planes_run_side_by_side(kube_apiserver: Path) -> None:
    with ControlPlane(own("beside")) as other:
        assert other.kubeconfig.read_text() != kube_apiserver.read_text()
        assert slots.of_cluster(other.name) is not None


class Ill(ControlPlane):
    """A control plane whose etcd dies before its API server starts."""

    def run_component(self, name: str, arguments: list[str], *, owned: bool = False) -> None:
        super().run_component(name, arguments, owned=owned)
        if name == "etcd":
            processes.kill(filter(None, [processes.recorded(self.record(name))]))
            self.log(name).write_text("no space left\n")


def test_an_etcd_that_dies_is_named_with_its_log() -> None:
    words = r"(?s)etcd ended.*no space left"
    with pytest.raises(DevClusterError, match=words), Ill(own("ill")):
        pass
    assert slots.of_cluster(own("ill")) is None


def test_a_proxy_that_leads_nowhere_is_not_asked_for_a_control_plane() -> None:
    program = (
        "from kubernetes import client, config\n"
        "from rtj_devcluster import kubectl\n"
        "from rtj_devcluster.control_plane import ControlPlane\n"
        f"with ControlPlane({own('proxied')!r}) as c:\n"
        "    print(kubectl.call(c.kubeconfig, 'get', 'namespace', 'default', '-o', 'name'))\n"
        "    config.load_kube_config(str(c.kubeconfig))\n"
        "    print(client.CoreV1Api().read_namespace('default').metadata.name)\n"
    )
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "localhost,127.0.0.1"}
    others = {name: value for name, value in os.environ.items() if not name.endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**others, **proxy},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["namespace/default", "default"], done.stderr
