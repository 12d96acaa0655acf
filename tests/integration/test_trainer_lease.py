"""The trainer takes, renews and loses its Lease on a real API server, with only its own rights."""

import base64
import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from rtj_api.names import ANNOTATION_DUMP_STACKS
from rtj_trainer.errors import SupersededError
from rtj_trainer.lease import ApiError, ApiServer, Lease

from tests.integration.rights import wait_until_may

pytestmark = pytest.mark.integration

Kubectl = Callable[..., str]
RIGHTS = ["get", "update", "patch"]


@pytest.fixture
def api(kube_apiserver: Path, kubectl: Kubectl, namespace: str, tmp_path: Path) -> ApiServer:
    """Speak as a service account that may touch the one Lease and nothing else."""
    create_account(kubectl, namespace)
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "job", "namespace": namespace},
    }
    kubectl("apply", "-f", "-", text_input=json.dumps(lease))
    token = tmp_path / "token"
    token.write_text(kubectl("create", "token", "trainer", "-n", namespace))
    return ApiServer(connection_to(kube_apiserver), token)


def create_account(kubectl: Kubectl, namespace: str) -> None:
    """Create the service account `trainer`, and wait until it has its rights."""
    kubectl("create", "serviceaccount", "trainer", "-n", namespace)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "trainer", "namespace": namespace},
        "rules": [
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": ["job"],
                "verbs": RIGHTS,
            }
        ],
    }
    kubectl("apply", "-f", "-", text_input=json.dumps(role))
    kubectl(
        *("create", "rolebinding", "trainer", "-n", namespace, "--role=trainer"),
        f"--serviceaccount={namespace}:trainer",
    )
    wait_until_may(
        kubectl,
        f"system:serviceaccount:{namespace}:trainer",
        verb="get",
        group="coordination.k8s.io",
        resource="leases",
        name="job",
        namespace=namespace,
    )


def connection_to(kube_apiserver: Path) -> http.client.HTTPSConnection:
    cluster = yaml.safe_load(kube_apiserver.read_text())["clusters"][0]["cluster"]
    address = urlsplit(cluster["server"])
    assert address.hostname
    host, port = address.hostname, address.port
    context = ssl.create_default_context()
    if "certificate-authority-data" in cluster:
        context.load_verify_locations(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
    else:
        context.load_verify_locations(cafile=cluster["certificate-authority"])
    return http.client.HTTPSConnection(host, port, timeout=60, context=context)


def holder(kubectl: Kubectl, namespace: str) -> tuple[str, int]:
    lease = json.loads(kubectl("get", "lease", "job", "-n", namespace, "-o", "json"))
    return lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]


def test_attempts_follow_each_other_and_the_older_one_finds_out(
    api: ApiServer, kubectl: Kubectl, namespace: str
) -> None:
    first = Lease(api, namespace, "job", job_uid="uid", attempt=1, pod_uid="pod-1")
    second = Lease(api, namespace, "job", job_uid="uid", attempt=2, pod_uid="pod-2")
    first.beat('{"attempt": 1}')
    first.beat('{"attempt": 1}')
    assert holder(kubectl, namespace) == ("pod-1", 1)

    second.beat('{"attempt": 2}')
    assert holder(kubectl, namespace) == ("pod-2", 2)
    with pytest.raises(SupersededError, match="attempt 2 holds the Lease"):
        first.beat('{"attempt": 1}')
    second.beat('{"attempt": 2, "still": "here"}')
    text = kubectl("get", "lease", "job", "-n", namespace, "-o", "json")
    assert '\\"still\\": \\"here\\"' in text


def test_a_lease_that_is_gone_is_an_error_that_may_pass(
    api: ApiServer, kubectl: Kubectl, namespace: str
) -> None:
    lease = Lease(api, namespace, "job", job_uid="uid", attempt=1, pod_uid="pod-1")
    lease.beat("{}")
    manifest = kubectl("get", "lease", "job", "-n", namespace, "-o", "yaml")
    kubectl("delete", "lease", "job", "-n", namespace)
    with pytest.raises(ApiError, match="404"):
        lease.beat("{}")
    fresh = yaml.safe_load(manifest)
    fresh["metadata"] = {"name": "job", "namespace": namespace}
    del fresh["spec"]
    kubectl("apply", "-f", "-", text_input=json.dumps(fresh))
    lease.beat("{}")
    assert holder(kubectl, namespace) == ("pod-1", 1)


def test_an_operator_that_writes_at_the_same_time_costs_nothing(
    api: ApiServer, kubectl: Kubectl, namespace: str
) -> None:
    lease = Lease(api, namespace, "job", job_uid="uid", attempt=1, pod_uid="pod-1")
    lease.beat("{}")
    kubectl("label", "lease", "job", "-n", namespace, "somebody=else")
    lease.beat('{"attempt": 1}')
    assert "somebody: else" in kubectl("get", "lease", "job", "-n", namespace, "-o", "yaml")


def test_what_the_operator_asks_comes_back_with_the_next_beat(
    api: ApiServer, kubectl: Kubectl, namespace: str
) -> None:
    question = f"{ANNOTATION_DUMP_STACKS}=000001-Training-5"
    lease = Lease(api, namespace, "job", job_uid="uid", attempt=1, pod_uid="pod-1")
    assert lease.beat("{}") is None
    kubectl("annotate", "lease", "job", "-n", namespace, question)
    assert lease.beat("{}") == "000001-Training-5"
    successor = Lease(api, namespace, "job", job_uid="uid", attempt=2, pod_uid="pod-2")
    assert successor.beat("{}") == "000001-Training-5"  # It is not about this one.
    assert successor.beat("{}") == "000001-Training-5"


def test_a_held_lease_does_not_say_who_set_which_field(
    api: ApiServer, kubectl: Kubectl, namespace: str
) -> None:
    """Finding that out would cost the API server more than the rest of a beat."""
    lease = Lease(api, namespace, "job", job_uid="uid", attempt=1, pod_uid="pod-1")
    for _ in range(2):
        lease.beat('{"attempt": 1}')
        told = ("get", "lease", "job", "-n", namespace, "-o", "json", "--show-managed-fields")
        assert "managedFields" not in json.loads(kubectl(*told))["metadata"]
