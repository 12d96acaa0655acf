"""Finds out why a pod that has a node does not start, where its own status does not tell.

That is in its Events: a volume that another node still has (`rtj_operator.core.attach`), or
whatever else the kubelet warns of (`rtj_operator.core.slow_start`).
"""

from contextlib import suppress

from rtj_api.names import Condition, Reason
from rtj_api.spec import JobSpec

from rtj_operator.cluster import (
    CLAIMS,
    EVENTS,
    Cluster,
    Key,
    Manifest,
    NotFoundError,
    RejectedError,
)
from rtj_operator.core import attach, slow_start
from rtj_operator.core.conditions import find
from rtj_operator.core.observed import Job, Observed, Pod, Problem
from rtj_operator.memory import Memory


async def find_delay(
    cluster: Cluster, key: Key, observed: Observed, memory: Memory
) -> Problem | None:
    """Tell why the pod does not start on its node, if its Events do. Raises ClusterError.

    Events cost the API server much, so they are read only for a pod that has waited for a while,
    and no more once the answer is known.
    """
    job, pod = observed.job, observed.pod
    if pod is None or job.spec is None or not is_slow(observed, memory):
        return None
    if already := told_delay(observed):
        return already
    if attached := await _find_attached(cluster, job, job.spec, pod):
        return attached
    if memory.may_ask(key, pod, memory.silences.of(("scheduled", pod.uid))):
        with suppress(RejectedError):
            return slow_start.problem_of(pod, await _events(cluster, job, pod, "type=Warning"))
    return None


async def _find_attached(cluster: Cluster, job: Job, spec: JobSpec, pod: Pod) -> Problem | None:
    """Tell whether the pod waits for a volume that another node still has."""
    for name in attach.claim_names(spec):
        with suppress(NotFoundError, RejectedError):
            if attach.is_exclusive(await cluster.get(CLAIMS, job.namespace, name)):
                events = await _events(cluster, job, pod, "reason=FailedAttachVolume")
                told = [event.get("message") or "" for event in events]
                if problem := attach.problem_of(job, pod, name, told):
                    return problem
    return None


async def _events(cluster: Cluster, job: Job, pod: Pod, which: str) -> list[Manifest]:
    return await cluster.list(EVENTS, job.namespace, fields=f"involvedObject.uid={pod.uid},{which}")


def is_slow(observed: Observed, memory: Memory) -> bool:
    """Whether the pod has waited on its node for longer than is usual, for something unsaid."""
    pod = observed.pod
    if pod is None or observed.beat:
        return False
    return attach.is_slow(pod, memory.silences.of(("scheduled", pod.uid)))


def told_delay(observed: Observed) -> Problem | None:
    """Return what status says of it already."""
    said = find(observed.job.status.conditions, Condition.RUNNING)
    if said and said.reason in (Reason.VOLUME_STILL_ATTACHED, Reason.CONTAINER_NOT_STARTED):
        return Problem(said.reason, said.message)
    return None
