"""The objects that a job owns besides its pods: the trainer's account, its right, and the Lease.

All carry an ownerReference, so they go with the job. The binding grants by name, so it is made only
where nobody else has a Lease of that name: who may create a job must not get at another's Lease.
"""

from typing import Any

from rtj_api.names import API_VERSION, KIND, LABEL_JOB, LABEL_JOB_UID

from rtj_operator.core.decision import EnsureObjects, Manifest
from rtj_operator.core.observed import Job


def owner_reference(job: Job) -> dict[str, Any]:
    """Return the controller reference to the job."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def labels(job: Job) -> dict[str, str]:
    """Return the labels of everything that belongs to the job."""
    return {LABEL_JOB: job.name, LABEL_JOB_UID: job.uid}


def account_name(job: Job) -> str:
    """Return the name of the trainer's ServiceAccount, Role and RoleBinding."""
    return f"{job.name}-trainer"


def before_pod(job: Job) -> EnsureObjects:
    """Make all that a pod needs. Where there is a pod, they were there."""
    return EnsureObjects((_lease(job), *_rights(job)))


def beside_pod(job: Job) -> EnsureObjects:
    """Make again what somebody deleted while a pod is there.

    The Lease comes last: an operator that is killed in between sees by its absence that more may be
    missing. (That nobody else has its name is looked at before any of them is made.)
    """
    return EnsureObjects((*_rights(job), _lease(job)))


def _lease(job: Job) -> Manifest:
    return {**_object(job, "coordination.k8s.io/v1", "Lease", job.name), "spec": {}}


def _rights(job: Job) -> tuple[Manifest, ...]:
    """Return the account, a Role for its one Lease, and the binding, which needs both."""
    rbac, name = "rbac.authorization.k8s.io", account_name(job)
    role = {
        **_object(job, f"{rbac}/v1", "Role", name),
        "rules": [
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": [job.name],
                "verbs": ["get", "update", "patch"],
            }
        ],
    }
    binding = {
        **_object(job, f"{rbac}/v1", "RoleBinding", name),
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": job.namespace}],
    }
    account = {
        **_object(job, "v1", "ServiceAccount", name),
        "automountServiceAccountToken": False,
    }
    return account, role, binding


def _object(job: Job, api_version: str, kind: str, name: str) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": job.namespace,
            "labels": labels(job),
            "ownerReferences": [owner_reference(job)],
        },
    }
