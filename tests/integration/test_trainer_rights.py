"""What a job's pod may do: renew its own Lease; and what its template cannot take from it."""

import json
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from rtj_operator.act import announce
from rtj_operator.cluster import JOBS, PODS, Key, Manifest
from rtj_operator.cluster import LEASES as LEASE_KIND
from rtj_operator.core.observed import Settings
from rtj_operator.kube import KubeCluster
from rtj_operator.memory import Memory
from rtj_operator.reconcile import Reconciler

from tests.integration.operator_world import (
    create_inputs,
    job_manifest,
    load_configuration,
)
from tests.integration.restricted import restrict
from tests.integration.rights import wait_until_may

pytestmark = pytest.mark.integration

Kubectl = Callable[..., str]
Ask = Callable[..., Any]
Fields = dict[str, Any]
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
JOB_PATH = "/apis/resumable.training/v1alpha1/namespaces/{namespace}/resumabletrainingjobs"
CORE = "/api/v1/namespaces/{namespace}"
FORBIDDEN = [
    # Its own Lease, beyond what a heartbeat needs; and those of others.
    ("GET", LEASES),
    ("GET", LEASES + "?watch=true"),
    ("POST", LEASES),
    ("DELETE", LEASES + "/job"),
    ("DELETE", LEASES),
    ("GET", LEASES + "/other"),
    ("PUT", LEASES + "/other"),
    ("PATCH", LEASES + "/other"),
    ("GET", LEASES.format(namespace="kube-node-lease")),
    ("GET", LEASES.format(namespace="default") + "/rtj-operator"),
    ("PATCH", LEASES.format(namespace="default") + "/job"),
    # Jobs: it can neither read its own nor declare it complete.
    ("GET", JOB_PATH),
    ("GET", JOB_PATH + "/job"),
    ("PATCH", JOB_PATH + "/job"),
    ("PUT", JOB_PATH + "/job/status"),
    ("PATCH", JOB_PATH + "/other/status"),
    ("DELETE", JOB_PATH + "/job"),
    # Everything else that a pod might be tempted by.
    ("GET", CORE + "/pods"),
    ("GET", CORE + "/pods/job-1-0"),
    ("DELETE", CORE + "/pods/job-1-0"),
    ("POST", CORE + "/pods"),
    ("POST", CORE + "/pods/job-1-0/exec?command=sh"),
    ("GET", CORE + "/pods/job-1-0/log"),
    ("GET", CORE + "/secrets"),
    ("GET", CORE + "/configmaps/code"),
    ("GET", CORE + "/persistentvolumeclaims"),
    ("GET", CORE + "/events"),
    ("POST", CORE + "/events"),
    ("GET", CORE + "/serviceaccounts"),
    ("POST", CORE + "/serviceaccounts/job-trainer/token"),
    ("POST", CORE + "/serviceaccounts/other-trainer/token"),
    ("GET", CORE),
    ("GET", "/api/v1/namespaces"),
    ("GET", "/api/v1/nodes"),
    ("GET", "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/job-trainer"),
    ("PATCH", "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/job-trainer"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"),
]


@pytest.fixture
async def ask(
    cluster: KubeCluster, kube_apiserver: Path, kubectl: Kubectl, namespace: str
) -> AsyncIterator[Ask]:
    """Send a request with the token of the trainer of `job`; there is a job `other`, too."""
    await create_inputs(cluster, namespace)
    for name in ("job", "other"):
        await launch(cluster, namespace, job_manifest(name))
        wait_until_may(
            kubectl,
            f"system:serviceaccount:{namespace}:{name}-trainer",
            verb="get",
            group="coordination.k8s.io",
            resource="leases",
            name=name,
            namespace=namespace,
        )
    token = kubectl("create", "token", "job-trainer", "-n", namespace).strip()
    configuration = await load_configuration(kube_apiserver)
    tls = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=configuration.ssl_ca_cert))
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(configuration.host, connector=tls, headers=headers) as session:

        async def call(method: str, path: str, body: Any = None, kind: str = "json") -> Any:
            headers = {"Content-Type": f"application/{kind}"}
            data = None if body is None else json.dumps(body)
            url = path.format(namespace=namespace)
            async with session.request(method, url, data=data, headers=headers) as answer:
                return answer.status, await answer.json()

        yield call


async def launch(cluster: KubeCluster, namespace: str, job: Manifest) -> Manifest:
    """Create a job and let the operator look at it twice; return its condition Running."""
    name = job["metadata"]["name"]
    await cluster.create(JOBS, namespace, job)
    memory = Memory(clock=lambda: 0.0)  # What was refused must stay so until it was shown.
    operator = Reconciler(cluster, memory, Settings(), partial(announce, cluster))
    for _ in range(2):
        await operator(Key(namespace, name))
    status = (await cluster.get(JOBS, namespace, name))["status"]
    return next(c for c in status["conditions"] if c["type"] == "Running")


async def test_a_trainer_may_read_and_renew_its_own_lease(ask: Ask) -> None:
    path = LEASES + "/job"
    status, lease = await ask("GET", path)
    assert status == 200
    lease["spec"] = {"holderIdentity": "pod-1", "leaseTransitions": 1}
    status, _ = await ask("PUT", path, lease)
    assert status == 200
    test = [{"op": "test", "path": "/spec/holderIdentity", "value": "pod-1"}]
    status, _ = await ask("PATCH", path, test, "json-patch+json")
    assert status == 200


async def test_a_trainer_may_do_nothing_else(ask: Ask) -> None:
    allowed = []
    for method, path in FORBIDDEN:
        kind = "merge-patch+json" if method == "PATCH" else "json"
        status, _ = await ask(method, path, {} if method != "GET" else None, kind)
        if status != 403:
            allowed.append((method, path, status))
    assert not allowed


async def test_a_job_named_like_anothers_lease_is_given_no_right_to_it(
    cluster: KubeCluster, namespace: str, kubectl: Kubectl
) -> None:
    await create_inputs(cluster, namespace)
    await cluster.create(LEASE_KIND, namespace, {"metadata": {"name": "controller"}, "spec": {}})
    running = await launch(cluster, namespace, job_manifest("controller"))
    assert running["reason"] == "PodNameTaken"
    assert "Lease controller exists and does not belong to this job" in running["message"]
    made = kubectl("get", "role,rolebinding,serviceaccount", "-n", namespace, "-o", "name")
    assert made.split() == ["serviceaccount/default"]


@pytest.fixture
async def restricted(cluster: KubeCluster, kubectl: Kubectl, namespace: str) -> str:
    """A namespace that takes no pod below the Pod Security Standard `restricted`."""
    restrict(kubectl, namespace)
    await create_inputs(cluster, namespace)
    return namespace


def job_with(name: str, template: Fields) -> Manifest:
    """Return a job whose podTemplate says that."""
    image = "docker.io/library/rtj-trainer:dev"
    return job_manifest(name, trainer={"image": image, "podTemplate": {"spec": template}})


def trainer(**container: Any) -> Fields:
    """Return a template that says this of the trainer's container."""
    return {"containers": [{"name": "trainer", **container}]}


def security(**context: Any) -> Fields:
    """Return a template that gives the trainer's container this security context."""
    return trainer(securityContext=context)


UNCONFINED = {"type": "Unconfined"}
ESCALATES = {"securityContext": {"allowPrivilegeEscalation": True}}
MENDED: list[Fields] = [
    {},
    security(privileged=True),
    security(allowPrivilegeEscalation=True),
    security(runAsNonRoot=False),
    security(seccompProfile=UNCONFINED),
    security(seccompProfile={"type": "Localhost", "localhostProfile": "mine.json"}),
    security(capabilities={"drop": ["NET_RAW"]}),
    security(capabilities={"add": ["SYS_ADMIN"]}),
    security(procMount="Unmasked"),
    security(seLinuxOptions={"type": "spc_t"}),
    security(appArmorProfile=UNCONFINED),
    {"securityContext": {"runAsNonRoot": False, "seccompProfile": UNCONFINED}},
]
REFUSED: list[tuple[Fields, str]] = [
    ({"hostNetwork": True}, "host namespaces"),
    ({"hostPID": True}, "host namespaces"),
    ({"hostIPC": True}, "host namespaces"),
    ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "hostPath"),
    ({"securityContext": {"runAsUser": 0}}, "runAsUser=0"),
    ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "sysctls"),
    (security(runAsUser=0), "runAsUser=0"),
    ({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, "seLinuxOptions"),
    (trainer(ports=[{"containerPort": 1, "hostPort": 1}]), "hostPort"),
    ({"containers": [{"name": "side", "image": "i", **ESCALATES}]}, 'container "side"'),
    ({"initContainers": [{"name": "first", "image": "i", **ESCALATES}]}, 'container "first"'),
]


async def test_what_a_template_may_not_take_away_is_kept(
    cluster: KubeCluster, restricted: str
) -> None:
    for number, template in enumerate(MENDED):
        running = await launch(cluster, restricted, job_with(f"job{number}", template))
        assert running["reason"] == "WaitingForPods", (template, running["message"])
        spec = (await cluster.get(PODS, restricted, f"job{number}-1-0"))["spec"]
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }, template
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["restartPolicy"] == "Never"
        assert spec["serviceAccountName"] == f"job{number}-trainer"
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False


async def test_what_the_namespace_forbids_is_refused_and_the_job_says_why(
    cluster: KubeCluster, restricted: str
) -> None:
    for number, (template, words) in enumerate(REFUSED):
        running = await launch(cluster, restricted, job_with(f"job{number}", template))
        assert running["reason"] == "PodRejected", (template, running["message"])
        assert 'violates PodSecurity "restricted:latest"' in running["message"]
        assert words in running["message"], running["message"]
    assert await cluster.list(PODS, restricted) == []
