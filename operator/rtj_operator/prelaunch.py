"""Looking, before a pod is made, whether what it mounts is there.

A pod that mounts something missing hangs in ContainerCreating and tells nobody who reads the job.
What was there a few seconds ago is not looked at again. Should it have gone since, the scheduler
says so of a claim at once, and the kubelet of a ConfigMap in half a minute (`core.slow_start`).
"""

from collections.abc import Awaitable
from dataclasses import dataclass

from rtj_api.builder import Builder
from rtj_api.names import Reason

from rtj_operator.cluster import (
    CLAIMS,
    CONFIG_MAPS,
    Cluster,
    NotFoundError,
)
from rtj_operator.core.attach import is_exclusive
from rtj_operator.core.observed import Job, Problem
from rtj_operator.fork_source import find_fork
from rtj_operator.memory import Memory
from rtj_operator.recent import Recent
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


async def find_needs(cluster: Cluster, job: Job, memory: Memory) -> Needs:
    """Look at what the job's next pod needs.

    Raises:
        ClusterError: it cannot be looked at.
    """
    if job.spec is None:
        return Needs()
    builder, namespace, claims = job.spec.builder, job.namespace, memory.claims
    name = job.spec.checkpoint.claim_name
    looks: list[Awaitable[Problem | bool | None]] = [
        _claim(cluster, claims, namespace, "spec.checkpoint.claimName", name)
    ]
    if builder.claim:
        name = builder.claim.name
        looks.append(_claim(cluster, claims, namespace, "spec.builder.claim.name", name))
    if builder.config_map:
        looks.append(_config_map(cluster, memory.config_maps, namespace, builder))
    found = await together(*looks)
    fork = await find_fork(cluster, job, job.spec)
    problems = [result for result in (*found, fork) if isinstance(result, Problem)]
    return Needs(tuple(problems), found[0] is True, fork if isinstance(fork, str) else None)


async def _claim(
    cluster: Cluster, known: Recent[bool], namespace: str, field: str, name: str
) -> Problem | bool:
    """Return whether the claim can be on one node only, or what is wrong with it."""
    exclusive = known.of(namespace, name)
    if exclusive is not None:
        return exclusive
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
    known.note(namespace, name, is_exclusive(claim))
    return is_exclusive(claim)


async def _config_map(
    cluster: Cluster, known: Recent[list[str]], namespace: str, builder: Builder
) -> Problem | None:
    """Return what is wrong with the builder's ConfigMap, if something is."""
    name = builder.config_map.name if builder.config_map else ""
    key = f"{builder.module}.py"
    if key in (known.of(namespace, name) or []):
        return None
    try:
        config_map = await cluster.get(CONFIG_MAPS, namespace, name)
    except NotFoundError:
        return Problem(
            Reason.BUILDER_NOT_FOUND,
            f"spec.builder.configMap.name {name!r}: there is no ConfigMap of this name in "
            f"namespace {namespace}. Create it (kubectl create configmap {name} "
            f"--from-file={builder.module}.py); the job goes on by itself.",
        )
    keys = sorted({**(config_map.get("data") or {}), **(config_map.get("binaryData") or {})})
    known.note(namespace, name, keys)
    if key in keys:
        return None
    there = ", ".join(keys) or "nothing"
    return Problem(
        Reason.BUILDER_NOT_FOUND,
        f"spec.builder.configMap.name {name!r}: this ConfigMap has no key {key!r} for "
        f"spec.builder.module {builder.module!r}; it has {there}. Add the file; the job goes on by "
        "itself. (The module cannot change: to name another, create a new job.)",
    )
