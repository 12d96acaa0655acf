"""The real operator, with the rights and the environment that the chart gives it, and no other."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from rtj_api.heartbeat import FinalRecord
from rtj_api.names import ANNOTATION_DUMP_STACKS, LABEL_JOB, Reason
from rtj_devcluster import kubebox
from rtj_devcluster.errors import CommandFailedError
from rtj_devcluster.shell import wait_until
from rtj_operator.cluster import NODE_LEASES

from tests.integration import audit
from tests.integration.crd_install import install_crd
from tests.integration.operator_world import job_manifest
from tests.integration.ports import free_port
from tests.integration.rights import wait_until_may

pytestmark = pytest.mark.integration

CHART = Path(__file__).parents[2] / "charts" / "rtj-operator"
Kubectl = Callable[..., str]
ACCOUNT = "system:serviceaccount:default:train-rtj-operator"
PATIENT = """
import runpy
from rtj_operator import leader
leader.RENEW_DEADLINE_SECONDS = 60.0  # Nobody else wants its Lease, however slow the machine is.
runpy.run_module("rtj_operator", run_name="__main__", alter_sys=True)
"""
IMPATIENT = {"startingTimeoutSeconds": 10}
GRANTED_ONLY = {("patch", "leases")}
"""The operator never patches; but nobody can grant what they do not have, and trainers do."""
RENEW_SECONDS = 2.0
TTL = {"ttlSecondsAfterFinished": 0}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "work"},
    "spec": {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
    },
}
OF_ONE_NODE = {
    **CLAIM,
    "metadata": {"name": "single"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def multi_attach_error(pod: dict[str, Any]) -> dict[str, Any]:
    """Return what the attach-detach controller says of a pod whose volume is still elsewhere."""
    about = {name: pod["metadata"][name] for name in ("namespace", "name", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "attach-"},
        "involvedObject": {"kind": "Pod", **about},
        "reason": "FailedAttachVolume",
        "message": 'Multi-Attach error for volume "pvc-1"',
        "type": "Warning",
    }


class Operator:
    """The operator as a child process of the test."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log
        self._health = f"http://127.0.0.1:{environment['RTJ_HEALTH_PORT']}/readyz"
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PATIENT], env=environment, stderr=output
            )

    def healthy(self) -> bool:
        """Return whether the probes of the chart would pass."""
        assert self._process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(self._health, timeout=2) as answer:  # noqa: S310 - http
                return bool(answer.status == 200)
        except OSError:  # Not answered, or not in time.
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
def audited_from(audit_log: Path) -> int:
    """Where in the log the operator's requests begin."""
    return audit_log.stat().st_size


def one_of_each_role(namespace: str) -> list[dict[str, str]]:
    """Return a right by each of the roles of the chart that watches one namespace."""
    leases = {"group": "coordination.k8s.io", "resource": "leases"}
    return [
        {"verb": "create", "resource": "pods", "namespace": namespace},
        {"verb": "get", "resource": "nodes"},
        {"verb": "watch", **leases, "namespace": NODE_LEASES},
        {"verb": "create", **leases, "namespace": "default"},
    ]


@pytest.fixture
def operator(
    helm: Callable[..., str],
    kube_apiserver: Path,
    kubectl: Kubectl,
    namespace: str,
    tmp_path: Path,
    audited_from: int,
    request: pytest.FixtureRequest,
) -> Iterator[Operator]:
    """A running operator; the parameter says whether it watches all namespaces or one."""
    values = ["--set=crds.enabled=false", "--set=replicas=0"]
    # Another operator may have left it, and this one is to make its own.
    kubectl("delete", "lease", "train-rtj-operator", "--ignore-not-found")
    if request.param == "one namespace":
        values.append(f"--set=watchNamespaces={{{namespace}}}")
    helm("install", "train", str(CHART), "--namespace=default", *values)
    for right in one_of_each_role(namespace):
        wait_until_may(kubectl, ACCOUNT, **right)
    deployment = json.loads(kubectl("get", "deployment", "train-rtj-operator", "-o", "json"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {item["name"]: item["value"] for item in container["env"] if "value" in item}

    config = yaml.safe_load(kube_apiserver.read_text())
    token = kubectl("create", "token", "train-rtj-operator").strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    from_the_downward_api = {"RTJ_OPERATOR_NAMESPACE": "default", "RTJ_IDENTITY": "train-0"}
    from_the_test = {"KUBECONFIG": str(kubeconfig), "RTJ_HEALTH_PORT": str(free_port())}
    operator = Operator(
        {"PATH": os.environ["PATH"], **environment, **from_the_downward_api, **from_the_test},
        tmp_path / "operator.log",
    )
    yield operator
    operator.stop()


@pytest.fixture
def node(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """A node without a kubelet, and its Lease, which is renewed."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace}}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": node["metadata"]}
    kubectl("create", "-f", "-", text_input=json.dumps(node))
    kubectl("create", "-f", "-", "-n", NODE_LEASES, text_input=json.dumps(lease))
    dead = threading.Event()
    beats = threading.Thread(target=renew, args=(kubectl, namespace, dead))
    beats.start()
    yield namespace
    dead.set()
    beats.join()
    kubectl("delete", "node", namespace)
    kubectl("delete", "lease", namespace, "-n", NODE_LEASES)


def renew(kubectl: Kubectl, node: str, dead: threading.Event) -> None:
    """Renew the Lease of a node until it is dead."""
    lease = ("lease", node, "-n", NODE_LEASES)
    while not dead.wait(RENEW_SECONDS):
        renewed = json.dumps({"spec": {"renewTime": f"{datetime.now(UTC):%FT%T.%fZ}"}})
        with suppress(CommandFailedError):  # A kubelet tries again, too.
            kubectl("patch", *lease, "--type=merge", "-p", renewed)


class Life:
    """What a user, a scheduler and a kubelet do in one namespace."""

    def __init__(self, kubectl: Kubectl, operator: Operator, namespace: str, node: str) -> None:
        self._kubectl = kubectl
        self._operator = operator
        self._namespace = namespace
        self._node = node

    def kubectl(self, *args: str, given: Any = None) -> str:
        """Call kubectl in the namespace."""
        text = None if given is None else json.dumps(given)
        return self._kubectl(*args, f"--namespace={self._namespace}", text_input=text)

    def pods(self) -> list[str]:
        """Return the names of the job's pods."""
        return self.kubectl("get", "pods", f"--selector={LABEL_JOB}=job", "-o", "name").split()

    def job(self, field: str) -> str:
        """Return a field of the job's status."""
        return self.kubectl("get", "rtj", "job", "-o", f"jsonpath={{.status.{field}}}")

    def suspend(self, value: bool) -> None:
        """Suspend the job, or let it go on."""
        change = json.dumps({"spec": {"runPolicy": {"suspend": value}}})
        self.kubectl("patch", "rtj", "job", "--type=merge", "-p", change)

    def happens(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is so, while the operator is healthy."""

        def healthy_and_so() -> bool:
            return self._operator.healthy() and condition()

        wait_until(healthy_and_so, what=what, timeout=60, hint=self._operator.log)

    def has_pod(self, name: str) -> None:
        """Wait until there is a pod of this name."""
        get = ("get", "pods", name, "--ignore-not-found", "-o", "name")
        self.happens(lambda: bool(self.kubectl(*get)), f"there is a pod {name}")

    def schedule(self, pod: str) -> None:
        """What a scheduler does; the API server under test has none."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self._node},
        }
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/binding"
        self._kubectl("create", "--raw", path, "-f", "-", text_input=json.dumps(binding))

    def report(self, pod: str, phase: str, state: dict[str, Any]) -> None:
        """What a kubelet does."""
        container = {"name": "trainer", "image": "i", "imageID": "i", "ready": False}
        statuses = [{**container, "restartCount": 0, "state": state}]
        change = json.dumps({"status": {"phase": phase, "containerStatuses": statuses}})
        self.kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", change)


@pytest.fixture
def life(operator: Operator, kubectl: Kubectl, namespace: str, node: str) -> Life:
    """A namespace with what jobs mount."""
    life = Life(kubectl, operator, namespace, node)
    life.kubectl("create", "configmap", "code", "--from-literal=builder.py=")
    life.kubectl("apply", "-f", "-", given=CLAIM)
    return life


def start_jobs_in_trouble(life: Life) -> None:
    """One job finds its pod's name taken, one hangs, one has its volume attached elsewhere."""
    life.kubectl("run", "taken-1-0", "--image=i", "--restart=Never")
    life.kubectl("apply", "-f", "-", given=job_manifest("taken"))
    life.kubectl("apply", "-f", "-", given=job_manifest("hangs", hangPolicy=IMPATIENT))
    life.has_pod("hangs-1-0")
    life.schedule("hangs-1-0")
    life.report("hangs-1-0", "Running", {"running": {}})
    life.kubectl("apply", "-f", "-", given=OF_ONE_NODE)
    life.kubectl(
        "apply", "-f", "-", given=job_manifest("waits", checkpoint={"claimName": "single"})
    )
    life.has_pod("waits-1-0")
    life.schedule("waits-1-0")
    pod = json.loads(life.kubectl("get", "pod", "waits-1-0", "-o", "json"))
    life.kubectl("create", "-f", "-", given=multi_attach_error(pod))


@pytest.mark.parametrize("operator", ["cluster-wide", "one namespace"], indirect=True)
def test_jobs_live_their_lives_by_all_the_rights_of_the_chart_and_no_other(
    operator: Operator, life: Life, helm: Callable[..., str], audit_log: Path, audited_from: int
) -> None:
    start_jobs_in_trouble(life)
    life.kubectl("apply", "-f", "-", given=job_manifest("job", runPolicy=TTL))
    life.happens(lambda: life.pods() == ["pod/job-1-0"], "the first attempt has a pod")
    life.schedule("job-1-0")
    life.happens(lambda: bool(life.job("attempt.nodeName")), "the operator saw where it runs")
    life.kubectl("delete", "pod", "job-1-0", "--force")
    life.happens(lambda: life.pods() == ["pod/job-2-0"], "the second attempt has a pod")
    life.happens(lambda: life.job("restarts.total") == "1", "the restart is counted")

    life.suspend(True)
    life.happens(lambda: not life.pods() and life.job("phase") == "Suspended", "it is suspended")
    life.suspend(False)
    life.happens(lambda: life.pods() == ["pod/job-3-0"], "the job goes on")

    words = FinalRecord(exit_code=0, reason=Reason.COMPLETED, message="All steps are done.")
    end = {"exitCode": 0, "message": words.model_dump_json(by_alias=True)}
    life.report("job-3-0", "Succeeded", {"terminated": end})
    gone = ("get", "rtj", "job", "--ignore-not-found", "-o", "name")
    life.happens(lambda: not life.kubectl(*gone), "it is complete and its time to live is over")

    lease = ("get", "lease", "hangs", "-o", "json")
    life.happens(lambda: ANNOTATION_DUMP_STACKS in life.kubectl(*lease), "who hangs is asked where")
    waits = ("get", "rtj", "waits", "-o", "jsonpath={.status.conditions[*].reason}")
    life.happens(lambda: "VolumeStillAttached" in life.kubectl(*waits), "who waits says for what")
    events = life.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert {"AttemptLaunched", "PodNameTaken"} <= set(events.split())
    assert "forbidden" not in operator.log().lower(), operator.log()

    rendered = yaml.safe_load_all(helm("get", "manifest", "train", "--namespace=default"))
    grants = audit.granted(rendered)[ACCOUNT]

    def uses() -> Any:
        return audit.used(audit.lines_after(audit_log, audited_from))[ACCOUNT]

    def unused() -> set[tuple[str, str]]:
        return {(a.verb, a.resource) for a in audit.unused(uses(), grants)}

    # For a node, for one, it asks only when a pod on it has been silent for a while.
    life.happens(lambda: unused() <= GRANTED_ONLY, "every right of the chart was used")
    assert unused() == GRANTED_ONLY
    assert audit.missing(uses(), grants) == []
