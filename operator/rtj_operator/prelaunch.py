"""Looking, before a pod is made, whether what it mounts is there.

A pod that mounts something missing hangs in ContainerCreating and tells nobody who reads the job.
"""

from dataclasses import dataclass

from rtj_api.builder import Builder
from rtj_api.names import Reason

from rtj_operator.cluster import (
    CLAIMS,
    CONFIG_MAPS,
    Cluster,
    Manifest,
    NotFoundError,
)
from rtj_operator.core.attach import is_exclusive
from rtj_operator.core.observed import Job, Problem
from rtj_operator.fork_source import find_fork
from rtj_operator.together import together


@dataclass(frozen=True)
class Needs:
    """What the job's next pod needs, as far as it must be looked at."""

    problems: tuple[Problem, ...] = ()
    """What is missing, worst first."""
    exclusive_claim: bool = False
    """Whether the claim for the commits can be on one node only."""
    fork_uid: str | None = None
    """Uid of the job that a fork starts from, before its first attempt."""
    refused_for: float = 0.0
    """Seconds for which creating it is not tried again, if it was refused."""


async def find_needs(cluster: Cluster, job: Job) -> Needs:
    """Look at what the job's next pod needs.

    Raises:
        ClusterError: it cannot be looked at.
    """
    if job.spec is None:
        return Needs()
    builder, namespace = job.spec.builder, job.namespace
    looks = [
        _claim(cluster, namespace, "spec.checkpoint.claimName", job.spec.checkpoint.claim_name)
    ]
    if builder.claim:
        looks.append(_claim(cluster, namespace, "spec.builder.claim.name", builder.claim.name))
    if builder.config_map:
        looks.append(_config_map(cluster, namespace, builder))
    found = await together(*looks)
    fork = await find_fork(cluster, job, job.spec)
    problems = [result for result in (*found, fork) if isinstance(result, Problem)]
    exclusive = not isinstance(found[0], Problem) and is_exclusive(found[0])
    return Needs(tuple(problems), exclusive, fork if isinstance(fork, str) else None)


async def _claim(cluster: Cluster, namespace: str, field: str, name: str) -> Problem | Manifest:
    try:
        claim = await cluster.get(CLAIMS, namespace, name)
    except NotFoundError:
        return Problem(
            Reason.CLAIM_NOT_FOUND,
            f"{field} {name!r}: there is no PersistentVolumeClaim of this name in namespace "
            f"{namespace}. Create it; the job goes on by itself.",
        )
    if "deletionTimestamp" in claim["metadata"]:
        return Problem(
            Reason.CLAIM_NOT_FOUND,
            f"{field} {name!r}: this PersistentVolumeClaim is being deleted. "
            "Create it again; the job goes on by itself.",
        )
    return claim


async def _config_map(cluster: Cluster, namespace: str, builder: Builder) -> Problem | Manifest:
    name = builder.config_map.name if builder.config_map else ""
    try:
        config_map = await cluster.get(CONFIG_MAPS, namespace, name)
    except NotFoundError:
        return Problem(
            Reason.BUILDER_NOT_FOUND,
            f"spec.builder.configMap.name {name!r}: there is no ConfigMap of this name in "
            f"namespace {namespace}. Create it (kubectl create configmap {name} "
            f"--from-file={builder.module}.py); the job goes on by itself.",
        )
    key = f"{builder.module}.py"
    if key in _keys(config_map):
        return config_map
    there = ", ".join(_keys(config_map)) or "nothing"
    return Problem(
        Reason.BUILDER_NOT_FOUND,
        f"spec.builder.configMap.name {name!r}: this ConfigMap has no key {key!r} for "
        f"spec.builder.module {builder.module!r}; it has {there}. Add the file; the job goes on by "
        "itself. (The module cannot change: to name another, create a new job.)",
    )


def _keys(config_map: Manifest) -> list[str]:
    return sorted({**(config_map.get("data") or {}), **(config_map.get("binaryData") or {})})
