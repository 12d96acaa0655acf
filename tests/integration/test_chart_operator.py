"""The real operator, with the rights and the environment that the chart gives it, and no other."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rtj_api.heartbeat import FinalRecord
from rtj_api.names import Reason
from rtj_devcluster import kubebox
from rtj_devcluster.shell import wait_until

from tests.integration.crd_install import install_crd

pytestmark = pytest.mark.integration

CHART = Path(__file__).parents[2] / "charts" / "rtj-operator"
Kubectl = Callable[..., str]
JOB: dict[str, Any] = {
    "apiVersion": "resumable.training/v1alpha1",
    "kind": "ResumableTrainingJob",
    "metadata": {"name": "job"},
    "spec": {
        "epochs": 1,
        "builder": {"configMap": {"name": "code"}},
        "checkpoint": {"claimName": "work"},
        "trainer": {"image": "docker.io/library/rtj-trainer:dev"},
        "runPolicy": {"ttlSecondsAfterFinished": 0},
    },
}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "work"},
    "spec": {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
    },
}


class Operator:
    """The operator as a child process of the test."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log
        self._health = f"http://127.0.0.1:{environment['RTJ_HEALTH_PORT']}/readyz"
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rtj_operator"], env=environment, stderr=output
            )

    def healthy(self) -> bool:
        """Return whether the probes of the chart would pass."""
        assert self._process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(self._health, timeout=2) as answer:  # noqa: S310 - http
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    def log(self) -> str:
        """Return all that it logged."""
        return self._log.read_text()

    def stop(self) -> None:
        """Kill it, as its pod would be."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def helm(kube_apiserver: Path) -> Iterator[Callable[..., str]]:
    """`helm install` into the namespace `default`, without the CRD; uninstalled afterwards."""
    install_crd(kube_apiserver)

    def run(*args: str) -> str:
        command = [kubebox.binary("helm"), f"--kubeconfig={kube_apiserver}", *args]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    run("uninstall", "train", "--namespace=default", "--ignore-not-found")


@pytest.fixture
def operator(
    helm: Callable[..., str],
    kube_apiserver: Path,
    kubectl: Kubectl,
    namespace: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Operator]:
    """A running operator; the parameter says whether it watches all namespaces or one."""
    values = ["--set=crds.enabled=false", "--set=replicas=0"]
    if request.param == "one namespace":
        values.append(f"--set=watchNamespaces={{{namespace}}}")
    helm("install", "train", str(CHART), "--namespace=default", *values)
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:serviceaccount:default:train-rtj-operator",
            "resourceAttributes": {"verb": "create", "resource": "pods", "namespace": namespace},
        },
    }
    granted = ("create", "-f", "-", "-o", "jsonpath={.status.allowed}")
    wait_until(
        lambda: kubectl(*granted, text_input=json.dumps(review)) == "true",
        what="the API server knows the new rights",
        timeout=30,
    )
    deployment = json.loads(kubectl("get", "deployment", "train-rtj-operator", "-o", "json"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {item["name"]: item["value"] for item in container["env"] if "value" in item}

    config = yaml.safe_load(kube_apiserver.read_text())
    token = kubectl("create", "token", "train-rtj-operator").strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    from_the_downward_api = {"RTJ_OPERATOR_NAMESPACE": "default", "RTJ_IDENTITY": "train-0"}
    from_the_test = {"KUBECONFIG": str(kubeconfig), "RTJ_HEALTH_PORT": str(port)}
    operator = Operator(
        {"PATH": os.environ["PATH"], **environment, **from_the_downward_api, **from_the_test},
        tmp_path / "operator.log",
    )
    yield operator
    operator.stop()


@pytest.fixture
def node(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """A node without a kubelet."""
    manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace}}
    kubectl("create", "-f", "-", text_input=json.dumps(manifest))
    yield namespace
    kubectl("delete", "node", namespace)


@pytest.mark.parametrize("operator", ["cluster-wide", "one namespace"], indirect=True)
def test_a_job_lives_its_life_without_a_right_that_is_missing(
    operator: Operator, kubectl: Kubectl, namespace: str, node: str
) -> None:
    def pods() -> list[str]:
        return kubectl("get", "pods", "-n", namespace, "-o", "name").split()

    def job(field: str) -> str:
        return kubectl("get", "rtj", "job", "-n", namespace, "-o", f"jsonpath={{.status.{field}}}")

    def happens(condition: Callable[[], bool], what: str) -> None:
        def healthy_and_so() -> bool:
            return operator.healthy() and condition()

        wait_until(healthy_and_so, what=what, timeout=60, hint=operator.log)

    def schedule(pod: str) -> None:
        """What a scheduler does; the API server under test has none."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/binding"
        kubectl("create", "--raw", path, "-f", "-", text_input=json.dumps(binding))

    kubectl("create", "configmap", "code", "--from-literal=builder.py=", "-n", namespace)
    kubectl("apply", "-n", namespace, "-f", "-", text_input=json.dumps(CLAIM))
    kubectl("apply", "-n", namespace, "-f", "-", text_input=json.dumps(JOB))
    happens(lambda: pods() == ["pod/job-1-0"], "the first attempt has a pod")

    schedule("job-1-0")
    happens(lambda: job("attempt.nodeName") == node, "the operator saw where the pod runs")
    kubectl("delete", "pod", "job-1-0", "-n", namespace, "--force")
    happens(lambda: pods() == ["pod/job-2-0"], "the second attempt has a pod")
    happens(lambda: job("restarts.total") == "1", "the restart is counted")

    suspend = '{"spec":{"runPolicy":{"suspend":%s}}}'
    kubectl("patch", "rtj", "job", "-n", namespace, "--type=merge", "-p", suspend % "true")
    happens(lambda: not pods() and job("phase") == "Suspended", "the job is suspended")
    kubectl("patch", "rtj", "job", "-n", namespace, "--type=merge", "-p", suspend % "false")
    happens(lambda: pods() == ["pod/job-3-0"], "the job goes on")

    events = kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].reason}")
    assert "AttemptLaunched" in events

    words = FinalRecord(exit_code=0, reason=Reason.COMPLETED, message="All steps are done.")
    ended = {
        "phase": "Succeeded",
        "containerStatuses": [
            {
                "name": "trainer",
                "image": "i",
                "imageID": "i",
                "ready": False,
                "restartCount": 0,
                "state": {
                    "terminated": {"exitCode": 0, "message": words.model_dump_json(by_alias=True)}
                },
            }
        ],
    }
    merge = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": ended}))
    kubectl("patch", "pod", "job-3-0", "-n", namespace, *merge)
    happens(
        lambda: kubectl("get", "rtj", "-n", namespace, "-o", "name") == "",
        "the job is complete and its time to live is over",
    )
    assert "forbidden" not in operator.log().lower(), operator.log()
