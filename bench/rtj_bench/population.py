"""The jobs of a run: ResumableTrainingJobs, and as many batch/v1 Jobs with the very same pods.

A Job's pod is what the operator makes for a ResumableTrainingJob, taken over field by field. The
Jobs are set up as their users do it where nodes are preempted: a disruption is not held against a
Job, so that it is not Failed after a few of them.
"""

import datetime
from dataclasses import dataclass
from typing import Any

from rtj_api.names import API_VERSION, KIND, LABEL_JOB, LABEL_JOB_UID, PLURAL
from rtj_operator.core.observed import Job, Settings
from rtj_operator.core.podspec import Places, pod_manifest
from rtj_operator.parse import parse_job

from rtj_bench.api import Api, ApiError, Manifest, in_parallel, until

JOBS_PER_NAMESPACE = 100
LABEL_BATCH_JOB = "batch.kubernetes.io/job-name"
IMAGE = "docker.io/library/rtj-trainer:dev"
_CLAIM, _CODE = "work", "code"


@dataclass(frozen=True, order=True)
class JobKey:
    """Names a job of either kind."""

    ours: bool
    namespace: str
    name: str


def keys(count: int, *, ours: bool, generation: int = 0) -> list[JobKey]:
    """Return the names of so many jobs, neighbours in different namespaces."""
    spaces = max(count // JOBS_PER_NAMESPACE, 1)
    prefix = "rtj" if ours else f"job-{generation}"
    return [
        JobKey(ours, f"team-{number % spaces:03}", f"{prefix}-{number:05}")
        for number in range(count)
    ]


async def make_namespaces(api: Api, names: set[str]) -> None:
    """Make namespaces, each with a bound claim and the ConfigMap of a builder."""

    async def make(name: str) -> None:
        at = f"/api/v1/namespaces/{name}"
        await api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        code = {"metadata": {"name": _CODE}, "data": {"builder.py": "# played"}}
        await api.request("POST", f"{at}/configmaps", code)
        volume, claim = _volume_and_claim(name)
        await api.request("POST", "/api/v1/persistentvolumes", volume)
        await api.request("POST", f"{at}/persistentvolumeclaims", claim)
        account = f"{at}/serviceaccounts/default"
        await until(lambda: _is_there(api, account), account, 60)

    await in_parallel(make, sorted(names))


async def _is_there(api: Api, path: str) -> bool:
    try:
        await api.request("GET", path)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def _volume_and_claim(namespace: str) -> tuple[Manifest, Manifest]:
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {
        "metadata": {"name": f"{namespace}-{_CLAIM}"},
        "spec": {
            **common,
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": namespace, "name": _CLAIM},
        },
    }
    claim = {
        "metadata": {"name": _CLAIM},
        "spec": {
            **common,
            "volumeName": f"{namespace}-{_CLAIM}",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    return volume, claim


async def make_jobs(api: Api, jobs: list[JobKey]) -> None:
    """Create jobs of one kind or both; their namespaces must be there."""

    async def make(key: JobKey) -> None:
        if key.ours:
            at, manifest = f"/apis/{API_VERSION}/namespaces/{key.namespace}/{PLURAL}", ours(key)
        else:
            at, manifest = f"/apis/batch/v1/namespaces/{key.namespace}/jobs", theirs(key)
        await api.request("POST", at, manifest)

    # Each is the beginning of a dozen requests of others, who share these cores.
    await in_parallel(make, jobs, width=8)


async def delete_their_jobs(api: Api, namespaces: set[str]) -> None:
    """Delete all batch/v1 Jobs; their pods follow."""
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    await in_parallel(
        lambda name: api.request("DELETE", f"/apis/batch/v1/namespaces/{name}/jobs", options),
        sorted(namespaces),
    )


def ours(key: JobKey, *, suspend: bool = False) -> Manifest:
    """Return a job of ours."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {
            "builder": {"configMap": {"name": _CODE}},
            "totalSteps": 1_000_000,
            "checkpoint": {"claimName": _CLAIM},
            "trainer": {
                "image": IMAGE,
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
            },
            "runPolicy": {"suspend": suspend},
        },
    }


def theirs(key: JobKey) -> Manifest:
    """Return a batch/v1 Job with the same pod."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {
            "backoffLimit": 1_000_000,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    }
                ]
            },
            "template": {"spec": _same_pod(key)},
        },
    }


def _same_pod(key: JobKey) -> dict[str, Any]:
    raw = ours(key)
    raw["metadata"] |= {"uid": "00000000-0000-0000-0000-000000000000", "generation": 1}
    job: Job = parse_job(raw)
    if job.spec is None:
        raise ValueError(job.spec_error)
    spec: dict[str, Any] = pod_manifest(job, job.spec, 1, Settings(), Places())["spec"]
    # Only we make an account for each job.
    return {**spec, "serviceAccountName": "default"}


async def make_idle_jobs(api: Api, jobs: list[JobKey]) -> None:
    """Create suspended jobs that have trained before: with their status, and their Lease."""

    async def make(key: JobKey) -> None:
        at = f"/apis/{API_VERSION}/namespaces/{key.namespace}/{PLURAL}"
        made = await api.request("POST", at, ours(key, suspend=True))
        made["status"] = _rested(key)
        await api.request("PUT", f"{at}/{key.name}/status", made)
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{key.namespace}/leases"
        await api.request("POST", leases, _lease(key, made["metadata"]["uid"]))

    await in_parallel(make, jobs)


def _lease(key: JobKey, uid: str) -> Manifest:
    return {
        "metadata": {
            "name": key.name,
            "labels": {LABEL_JOB: key.name, LABEL_JOB_UID: uid},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": key.name,
                    "uid": uid,
                    "controller": True,
                }
            ],
        },
        "spec": {"holderIdentity": "trainer", "renewTime": "2026-01-01T00:00:00.000000Z"},
    }


def _rested(key: JobKey) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    words = {"lastTransitionTime": now, "observedGeneration": 1, "reason": "SuspendedByUser"}
    message = "spec.runPolicy.suspend is true."
    attempts = [
        {
            "number": number,
            "cause": "Preempted" if number < 3 else "Suspended",
            "reason": "Evicted" if number < 3 else "SuspendedByUser",
            "message": "Evicted: EvictionByEvictionAPI: Eviction API: evicting.",
            "nodeName": f"fake-{number:02}",
            "firstStep": 1000 * (number - 1),
            "lastStep": 1000 * number,
            "committedStep": 1000 * number,
            "startTime": now,
            "endTime": now,
        }
        for number in (1, 2, 3)
    ]
    return {
        "observedGeneration": 1,
        "phase": "Suspended",
        "conditions": [
            {"type": "Suspended", "status": "True", "message": message, **words},
            {"type": "Running", "status": "False", "message": message, **words},
        ],
        "attempts": attempts,
        "lastCommit": {"id": "000000003000-000003", "step": 3000, "time": now},
        "position": {"step": 3000, "epoch": 3, "samples": 96000, "totalSteps": 1_000_000},
        "restarts": {"preempted": 2, "total": 2},
        "progress": "0%",
        "startTime": now,
    }
