"""Finds out why a pod that has a node does not start, where its own status does not tell.

That is in its Events: a volume that another node still has (`rtj_operator.core.attach`), or
whatever else the kubelet warns of (`rtj_operator.core.slow_start`). Events cost the API server
much, so they are read ever more rarely; in between, what status says of them stays.
"""

from contextlib import suppress

from rtj_api.names import Condition, Reason

from rtj_operator.cluster import (
    CLAIMS,
    EVENTS,
    Cluster,
    Key,
    Manifest,
    NotFoundError,
    RejectedError,
)
from rtj_operator.core import attach, pod_events, slow_start
from rtj_operator.core.conditions import find
from rtj_operator.core.observed import Job, Observed, Pod, Problem
from rtj_operator.memory import Memory


async def find_delay(
    cluster: Cluster, key: Key, observed: Observed, memory: Memory
) -> Problem | None:
    """Tell why the pod does not start on its node, if its Events do.

    Raises:
        ClusterError: they cannot be read.
    """
    pod, told = observed.pod, told_delay(observed)
    if pod is None or not is_due(key, observed, memory):
        return told
    waited = observed.silence.placed
    memory.asked(key, pod, slow_start.pause_after(waited))
    claim = await _exclusive_claim(cluster, observed.job)
    if claim is None and waited < slow_start.FIRST_LOOK_SECONDS:
        return told
    warnings = pod_events.standing(await _events(cluster, observed.job, pod))
    if claim and (attached := attach.problem_of(observed.job, pod, claim, warnings)):
        return attached
    if waited < slow_start.FIRST_LOOK_SECONDS:
        # It waits for longer than this process knows, if an earlier one told of it.
        return told if told and told.reason is Reason.CONTAINER_NOT_STARTED else None
    warning = slow_start.newest(warnings)
    if warning is None or not _recent(pod, warning, memory):
        return None
    return slow_start.problem_of(pod, warning)


def is_due(key: Key, observed: Observed, memory: Memory) -> bool:
    """Whether it is time to read the Events of the job's pod."""
    pod = observed.pod
    return pod is not None and _is_slow(observed) and memory.may_ask(key, pod)


def told_delay(observed: Observed) -> Problem | None:
    """Return what status says of it already, as long as the pod still waits.

    For how long is no matter: a process that has just started does not know.
    """
    said = find(observed.job.status.conditions, Condition.RUNNING)
    told = said and said.reason in (Reason.VOLUME_STILL_ATTACHED, Reason.CONTAINER_NOT_STARTED)
    if said is None or not told or not _waits(observed):
        return None
    return Problem(said.reason, said.message)


def _is_slow(observed: Observed) -> bool:
    """Whether the pod has waited on its node for longer than is usual, for something unsaid."""
    return _waits(observed) and observed.silence.placed >= attach.ORDINARY_ATTACH_SECONDS


def _waits(observed: Observed) -> bool:
    pod = observed.pod
    return pod is not None and not observed.beat and attach.waits(pod)


def _recent(pod: Pod, warning: pod_events.Event, memory: Memory) -> bool:
    """Whether the warning came again not long ago, by when this process saw it change."""
    seen = (warning.get("reason"), pod_events.last_time(warning))
    since = memory.silences.seconds_in_all(("warning", pod.uid), seen)
    return since <= slow_start.LONGEST_STANDING_SECONDS


async def _exclusive_claim(cluster: Cluster, job: Job) -> str | None:
    """Return the first of the job's claims that only one node at a time can have."""
    for name in attach.claim_names(job.spec) if job.spec else ():
        with suppress(NotFoundError, RejectedError):
            if attach.is_exclusive(await cluster.get(CLAIMS, job.namespace, name)):
                return name
    return None


async def _events(cluster: Cluster, job: Job, pod: Pod) -> list[Manifest]:
    with suppress(RejectedError):
        return await cluster.list(EVENTS, job.namespace, fields=f"involvedObject.uid={pod.uid}")
    return []
