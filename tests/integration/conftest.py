"""Fixtures of the integration layer: a real API server with no nodes behind it.

``kube_apiserver``  path of an administrator's kubeconfig; one API server (with etcd and the
                    controller manager: garbage collection, namespaces, service accounts) per
                    test session. Pods are stored but nothing schedules or runs them.
``audit_log``       the log of every request to that API server, one JSON line (metadata only) each.
``namespace``       name of a namespace made for this one test; its default service account is
                    there, so pods can be created at once.
``cluster``         the operator's adapter with an administrator's rights; the CRD is installed.
``kubectl``         function ``kubectl(*arguments, text_input=None) -> str`` as an administrator.
"""

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from rtj_devcluster import kubectl as kubectl_module
from rtj_devcluster.control_plane import ControlPlane, ControlPlaneOptions
from rtj_devcluster.shell import wait_until
from rtj_operator.kube import KubeCluster

from tests.integration.crd_install import install_crd
from tests.integration.operator_world import connect


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    name = f"integration-{os.getpid()}"
    with ControlPlane(name, ControlPlaneOptions(audit=True)) as control_plane:
        yield control_plane


@pytest.fixture(scope="session")
def kube_apiserver(control_plane: ControlPlane) -> Path:
    return control_plane.kubeconfig


@pytest.fixture(scope="session")
def audit_log(control_plane: ControlPlane) -> Path:
    return control_plane.log("audit")


@pytest.fixture(scope="session")
def kubectl(kube_apiserver: Path) -> Callable[..., str]:
    def call(*arguments: str, text_input: str | None = None) -> str:
        return kubectl_module.call(kube_apiserver, *arguments, text_input=text_input)

    return call


@pytest.fixture
def namespace(kubectl: Callable[..., str]) -> str:
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    wait_until(
        lambda: bool(kubectl("get", "serviceaccount", "-n", name, "-o", "name")),
        what=f"namespace {name} has its default service account",
        timeout=30,
    )
    return name


@pytest.fixture
async def cluster(kube_apiserver: Path) -> AsyncIterator[KubeCluster]:
    install_crd(kube_apiserver)
    async with await connect(kube_apiserver) as cluster:
        yield cluster
