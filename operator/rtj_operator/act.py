"""Carrying out a decision's actions. Each may be repeated after a crash, to no effect."""

import logging
from datetime import datetime

from rtj_api.names import ANNOTATION_DUMP_STACKS, API_VERSION, FIELD_MANAGER, KIND, Reason

from rtj_operator.cluster import (
    CREATED_KINDS,
    EVENTS,
    JOBS,
    LEASES,
    PODS,
    AlreadyExistsError,
    Cluster,
    ClusterError,
    ConflictError,
    Manifest,
    NotFoundError,
    RejectedError,
)
from rtj_operator.core.decision import (
    Action,
    AskForStacks,
    CreatePod,
    DeleteJob,
    DeletePod,
    EnsureObjects,
    Notice,
)
from rtj_operator.core.observed import Job, Problem
from rtj_operator.parse import owned_by

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """Something of the job's could not be created, for a reason that the user must see."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


async def perform(cluster: Cluster, job: Job, action: Action) -> None:
    """Carry out one action. Raises ClusterError, RefusedError."""
    match action:
        case EnsureObjects(manifests):
            missing = [m for m in manifests if not await _is_there(cluster, job, m)]
            for manifest in missing:
                await _create(cluster, job, manifest)
        case CreatePod(manifest):
            await _create(cluster, job, manifest)
        case AskForStacks(standstill):
            await _ask_for_stacks(cluster, job, standstill)
        case DeletePod(name, uid):
            try:
                await cluster.delete(PODS, job.namespace, name, uid)
            except (NotFoundError, ConflictError):
                return  # It is gone, or its name is another's by now.
        case DeleteJob():
            try:
                await cluster.delete(JOBS, job.namespace, job.name, job.uid)
            except (NotFoundError, ConflictError):
                return


async def _is_there(cluster: Cluster, job: Job, manifest: Manifest) -> bool:
    """Whether the job has it already. Raises RefusedError if somebody else has the name."""
    kind = CREATED_KINDS[manifest["kind"]]
    try:
        there = await cluster.get(kind, job.namespace, manifest["metadata"]["name"])
    except NotFoundError:
        return False
    _must_own(job, there, manifest)
    return True


async def _create(cluster: Cluster, job: Job, manifest: Manifest) -> None:
    kind, name = CREATED_KINDS[manifest["kind"]], manifest["metadata"]["name"]
    try:
        await cluster.create(kind, job.namespace, manifest)
    except AlreadyExistsError:
        _must_own(job, await cluster.get(kind, job.namespace, name), manifest)
    except RejectedError as error:
        message = f"{kind.kind} {name} was refused by the API server: {error}"
        raise RefusedError(Problem(Reason.POD_REJECTED, message)) from error


async def _ask_for_stacks(cluster: Cluster, job: Job, standstill: str) -> None:
    """Annotate the Lease; where that cannot be done, nobody is asked and the wait has an end."""
    try:
        lease = await cluster.get(LEASES, job.namespace, job.name)
        if not owned_by(lease, job.uid):
            return
        annotations = lease["metadata"].setdefault("annotations", {})
        annotations[ANNOTATION_DUMP_STACKS] = standstill
        await cluster.replace(LEASES, job.namespace, lease)
    except (NotFoundError, RejectedError):
        return


def _must_own(job: Job, there: Manifest, manifest: Manifest) -> None:
    if not owned_by(there, job.uid):
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        raise RefusedError(
            Problem(
                Reason.POD_NAME_TAKEN,
                f"{name} exists and does not belong to this job. Delete or rename it, "
                "or wait if it is what an older job of the same name left behind.",
            )
        )


async def announce(cluster: Cluster, job: Job, notice: Notice, now: datetime) -> None:
    """Post an Event; the same turn twice is one Event. One that cannot be posted is only logged."""
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": notice.object_name(job.name, job.uid),
            "namespace": job.namespace,
        },
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": job.namespace,
            "name": job.name,
            "uid": job.uid,
        },
        "type": notice.severity,
        "reason": notice.reason,
        "message": notice.message,
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
    try:
        await cluster.create(EVENTS, job.namespace, event)
    except AlreadyExistsError:
        return
    except ClusterError as error:
        log.warning("event lost", extra={"job": job.name, "reason": str(error)})
