"""A job that an older schema let in is given its status, though the newer one would refuse it."""

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from rtj_api import crd
from rtj_operator.cluster import JOBS, Key, Kind, Manifest, RejectedError
from rtj_operator.kube import KubeCluster

from tests.integration.operator_world import job_manifest
from tests.integration.test_operator_against_api_server import Operator, eventually

pytestmark = pytest.mark.integration

CRDS = Kind(
    "apiextensions.k8s.io/v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)


async def install(cluster: KubeCluster, spec: Manifest) -> None:
    """Replace the CRD."""
    there = await cluster.get(CRDS, "", crd.NAME)
    await cluster.replace(CRDS, "", {**there, "spec": spec})


def takes(cluster: KubeCluster, namespace: str, job: Manifest) -> Callable[[], Awaitable[bool]]:
    """Return how to create the job, and whether it was taken."""

    async def create() -> bool:
        try:
            await cluster.create(JOBS, namespace, job)
        except RejectedError:
            return False
        return True

    return create


@pytest.mark.parametrize("name", ["with.dot", "a" * 48])
async def test_a_job_with_a_name_of_an_older_schema_is_told_of_it(
    cluster: KubeCluster, namespace: str, name: str
) -> None:
    spec: dict[str, Any] = (await cluster.get(CRDS, "", crd.NAME))["spec"]
    older = copy.deepcopy(spec)
    del older["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    await install(cluster, older)
    try:
        await eventually(takes(cluster, namespace, job_manifest(name)))
    finally:
        await install(cluster, spec)
    refused = 0

    async def is_refused() -> bool:
        nonlocal refused
        refused += 1
        return not await takes(cluster, namespace, job_manifest(f"{name}-{refused}"))()

    await eventually(is_refused)
    operator = Operator(cluster, namespace)
    operator.key = Key(namespace, name)
    status = await operator.until(lambda s: s.get("phase") == "Failed")
    assert {c["reason"] for c in status["conditions"]} == {"InvalidSpec"}
