"""One look at a job: all that `decide` may depend on.

A live one was read after the key was taken, and may be acted on. So may one that believes what the
job was seen to be, once a status that was decided from it is written: that proves it. A glance
costs no request, and tells only whether another look is worth it.
"""

from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import TypeVar

from rtj_api.names import LABEL_JOB, MAX_JOB_NAME_LENGTH

from rtj_operator import delay
from rtj_operator.cluster import (
    JOBS,
    LEASES,
    NODE_LEASES,
    NODES,
    PODS,
    Cluster,
    Key,
    Kind,
    Manifest,
    NotFoundError,
    RejectedError,
)
from rtj_operator.core import hang
from rtj_operator.core.observed import Job, Observed, Pod, Problem, Settings, Silence
from rtj_operator.core.unstartable import cannot_start
from rtj_operator.memory import Memory
from rtj_operator.parse import (
    is_lost,
    owned_by,
    parse_heartbeat,
    parse_pod,
    parse_stacks_asked,
)
from rtj_operator.prelaunch import Needs, find_needs
from rtj_operator.together import together

T = TypeVar("T")


async def observe(
    cluster: Cluster, key: Key, memory: Memory, settings: Settings
) -> tuple[Manifest, Observed] | None:
    """Read everything about a job; None if there is none. The raw job is returned for its version.

    Raises ClusterError.
    """
    job, pods = _get_or_none(cluster, JOBS, key.namespace, key.name), _pods(cluster, key)
    return await _observe(cluster, key, memory, settings, job, pods)


async def believe(
    cluster: Cluster, key: Key, memory: Memory, settings: Settings
) -> tuple[Manifest, Observed] | None:
    """Read the Lease of a job whose attempt seems to be over; None if there seems to be none.

    A pod that was seen to end stays so, and is not read again. Else it is read by its name: a list
    waits until the API server's cache is as new as etcd. Pods of older attempts are taken as they
    were seen; one that has gone since is deleted once more.

    Raises ClusterError.
    """
    seen = memory.sightings.of(key)
    if seen is None:
        return None
    attempt = memory.sightings.read(key, seen.job).status.attempt
    if attempt is None or any(p.name == attempt.pod_name and not p.ended for p in seen.pods):
        return None
    pods: Awaitable[list[Manifest]]
    ended = any(pod.uid == attempt.pod_uid for pod in seen.pods)
    pods = _at_once([]) if ended else _pod(cluster, key.namespace, attempt.pod_name)
    known = tuple(pod for pod in seen.pods if ended or pod.name != attempt.pod_name)
    return await _observe(cluster, key, memory, settings, _at_once(seen.job), pods, known)


async def _observe(
    cluster: Cluster,
    key: Key,
    memory: Memory,
    settings: Settings,
    reading_job: Awaitable[Manifest | None],
    reading_pods: Awaitable[list[Manifest]],
    known: tuple[Pod, ...] = (),
) -> tuple[Manifest, Observed] | None:
    raw: Manifest | None
    pods: list[Manifest]
    asked = memory.clock()
    raw, pods = await together(reading_job, reading_pods)
    if raw is None:
        return None
    # After the pods: it has the last word of a trainer that was seen to have ended.
    lease = await _get_or_none(cluster, LEASES, key.namespace, key.name)
    memory.silences.contact()
    memory.sightings.job(key, raw)
    lag = memory.clock() - asked
    job = memory.sightings.read(key, raw)
    memory.looked(key, job)
    lease = _own(lease, job, key, memory)
    read = (_seen(memory, key, pod) for pod in pods if owned_by(pod, job.uid))
    observed = _put_together(key, job, (*known, *read), lease, memory, settings)
    if observed.pod:
        memory.saw_pod(key, observed.pod)
    observed = replace(observed, silence=await _silence(cluster, observed, lease, memory, lag))
    if _may_launch(observed):
        refusal = memory.refusals.standing(key) or _deleted_each_time(observed, key, memory)
        if refusal:
            problem, seconds = refusal
            needs = Needs((problem,), refused_for=seconds)
        else:
            needs = await find_needs(cluster, job, memory)
        observed = replace(
            observed,
            problems=needs.problems,
            exclusive_claim=needs.exclusive_claim,
            fork_uid=needs.fork_uid,
            refused_for=needs.refused_for,
        )
    observed = replace(observed, delay=await delay.find_delay(cluster, key, observed, memory))
    return raw, observed


async def glance(
    cluster: Cluster, key: Key, memory: Memory, settings: Settings
) -> tuple[Manifest, Observed] | None:
    """Put together what the watches said; None if that cannot be enough to tell what is to be done.

    Only where a node may be dead is the API server asked, for the node. Raises ClusterError.
    """
    seen = memory.sightings.of(key)
    if seen is None:
        return None
    job = memory.sightings.read(key, seen.job)
    observed = _put_together(key, job, seen.pods, seen.lease, memory, settings)
    if observed.pod is None or observed.pod.ended:
        return None
    memory.saw_pod(key, observed.pod)
    silence = await _silence(cluster, observed, seen.lease, memory, lag=0.0)
    observed = replace(observed, silence=_until_now(silence, memory))
    if delay.is_due(key, observed, memory):
        return None
    return seen.job, replace(observed, delay=delay.told_delay(observed))


def _put_together(
    key: Key,
    job: Job,
    pods: tuple[Pod, ...],
    lease: Manifest | None,
    memory: Memory,
    settings: Settings,
) -> Observed:
    return Observed(
        job=job,
        pods=pods,
        gone=memory.last_pod(key, job.uid),
        heartbeat=parse_heartbeat(lease, job.uid) if lease else None,
        lease_found=lease is not None,
        stacks_asked=parse_stacks_asked(lease) if lease else None,
        since_mirrored=memory.since_mirrored(key),
        settings=settings,
    )


def _own(lease: Manifest | None, job: Job, key: Key, memory: Memory) -> Manifest | None:
    """Note a Lease that was read; return it unless it is another job's."""
    if lease is None:
        return None
    memory.sightings.lease(key, lease)
    return lease if owned_by(lease, job.uid) else None


def _seen(memory: Memory, key: Key, raw: Manifest) -> Pod:
    pod = parse_pod(raw)
    memory.sightings.known_pod(key, raw, pod)
    return pod


async def _at_once(known: T) -> T:
    return known


async def _get_or_none(cluster: Cluster, kind: Kind, namespace: str, name: str) -> Manifest | None:
    try:
        return await cluster.get(kind, namespace, name)
    except NotFoundError:
        return None


async def _pods(cluster: Cluster, key: Key) -> list[Manifest]:
    if len(key.name) > MAX_JOB_NAME_LENGTH:
        return []  # Its name is no label value; the job will be refused for it.
    return await cluster.list(PODS, key.namespace, f"{LABEL_JOB}={key.name}")


async def _pod(cluster: Cluster, namespace: str, name: str) -> list[Manifest]:
    pod = await _get_or_none(cluster, PODS, namespace, name)
    return [pod] if pod else []


def _may_launch(observed: Observed) -> bool:
    """Whether this look may end in creating a pod, so that its needs must be looked at."""
    job, pod = observed.job, observed.pod
    if job.spec is None or job.deleting or job.status.phase.final or job.spec.run_policy.suspend:
        return False
    if pod is None or pod.ended or pod.deleting:
        return True
    return (
        observed.silence.heartbeat >= observed.settings.node_silence
        or hang.until_hung(observed, pod, job.spec.hang_policy) <= 0
    )


def _deleted_each_time(
    observed: Observed, key: Key, memory: Memory
) -> tuple[Problem, float] | None:
    """Say so if somebody deletes the attempt's pod again and again before it has a node.

    Returns also the seconds for which it is not made again.
    """
    attempt = observed.job.status.attempt
    if attempt is None or not observed.absent:
        return None
    return memory.creations.refusal(key, attempt.pod_name)


async def _silence(
    cluster: Cluster, observed: Observed, lease: Manifest | None, memory: Memory, lag: float
) -> Silence:
    """Tell how long everything has been silent, less the time that reading it took."""
    pod, silences = observed.pod, memory.silences
    if pod is None or pod.ended:
        return Silence()
    terminating = silences.seconds_in_all(("terminating", pod.uid), pod.deleting)
    if pod.node is None:
        return Silence(terminating=terminating if pod.deleting else 0.0)
    beat = observed.beat
    if beat and lease:
        renewed = lease["spec"].get("renewTime")
        heartbeat = silences.seconds(("heartbeat", observed.job.uid), (beat.attempt, renewed))
    else:
        heartbeat = silences.seconds(("scheduled", pod.uid), pod.node)
    moved = (pod.uid, pod.started, beat.standstill if beat else "")
    progress = silences.seconds_in_all(("progress", observed.job.uid), moved)
    question = observed.stacks_asked
    asked = silences.seconds_in_all(("asked", observed.job.uid), question) if question else 0.0
    stuck = cannot_start(pod)
    # Noted also while nothing is wrong, or time without a problem would count.
    unstartable = silences.seconds_in_all(("unstartable", pod.uid), stuck)
    node_lease, node_gone = 0.0, False
    limit = observed.settings.node_silence
    quiet = min(heartbeat, silences.of(("node", pod.node))) >= limit / 2 or heartbeat >= limit
    known = silences.knows(("node", pod.node)) or silences.knows(("no lease", pod.node))
    if quiet or not known:
        node_lease, node_gone = await _ask_node(cluster, pod, memory)
    return Silence(
        heartbeat=max(heartbeat - lag, 0.0),
        node_lease=silences.of(("node", pod.node)) if not node_gone else node_lease,
        node_gone=node_gone,
        unstartable=unstartable if stuck else 0.0,
        progress=max(progress - lag, 0.0),
        placed=silences.seconds_in_all(("scheduled", pod.uid), pod.node),
        asked=max(asked - lag, 0.0),
        terminating=terminating if pod.deleting else 0.0,
    )


def _until_now(silence: Silence, memory: Memory) -> Silence:
    """Take all since the last contact for silence, so that what may be dead gets a live look.

    Else a dead node would be noticed later by up to the pause between two contacts.
    """
    unknown = memory.silences.since_contact()
    return replace(
        silence,
        heartbeat=silence.heartbeat + unknown,
        node_lease=silence.node_lease + unknown,
    )


async def _ask_node(cluster: Cluster, pod: Pod, memory: Memory) -> tuple[float, bool]:
    """Look at the node itself: the watch may be behind. Returns seconds of silence, and "gone".

    A node that never had a Lease, as some virtual ones, is gone also if the control plane says so.
    """
    name = pod.node or ""
    lease = await _get_or_none(cluster, LEASES, NODE_LEASES, name)
    if lease is None:
        # It went with its Node, which is no sign of life, or there never was one.
        memory.silences.seconds(("no lease", name), True)
        silent = memory.silences.of(("node", name))
    else:
        renewed = (lease.get("spec") or {}).get("renewTime")
        silent = memory.silences.seconds(("node", name), renewed)
    try:
        node = await cluster.get(NODES, "", name)
    except NotFoundError:
        return silent, True
    except RejectedError:
        return silent, False  # Not allowed to read nodes: the Lease must do.
    return silent, not memory.silences.knows(("node", name)) and is_lost(node)


async def every_job(cluster: Cluster, namespaces: tuple[str, ...]) -> AsyncIterator[Manifest]:
    """Read every job, in these namespaces or, with none given, in all. Raises ClusterError."""
    for namespace in namespaces or ("",):
        async for raw in cluster.each(JOBS, namespace):
            yield raw
