"""Volumes that only one node at a time can have, while the node that has one is dead.

Kubernetes detaches such a volume from a node that does not answer only after about six minutes, or
at once if somebody vouches with a taint that the node is really off. Until then the next pod waits
in ContainerCreating. That is nobody's error: it costs no budget, and the user is told what to do.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rtj_api.names import Reason
from rtj_api.spec import JobSpec

from rtj_operator.core.judge import ORDINARY_WAITING
from rtj_operator.core.observed import Job, Pod, Problem
from rtj_operator.core.pod_events import Event, message_of

SHARED = "ReadWriteMany"
ORDINARY_ATTACH_SECONDS = 5.0
"""An attach that takes no longer than this is not looked into."""

STILL_ATTACHED = "Multi-Attach error"
"""What the attach-detach controller says first in such a case, and in no other."""

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


def is_exclusive(claim: Mapping[str, Any]) -> bool:
    """Whether only one node at a time can mount this PersistentVolumeClaim for writing."""
    modes = (claim.get("spec") or {}).get("accessModes") or []
    return bool(modes) and SHARED not in modes


def claim_names(spec: JobSpec) -> list[str]:
    """Return the claims that the job's pods mount, without those of podTemplate."""
    builder = spec.builder.claim
    return list(dict.fromkeys([spec.checkpoint.claim_name, *([builder.name] if builder else [])]))


def waits(pod: Pod) -> bool:
    """Whether a pod is on its node and does not run yet, and its status does not say why."""
    reason = pod.waiting.reason if pod.waiting else ""
    placed = pod.node is not None and not pod.started and not pod.deleting
    return placed and reason in ORDINARY_WAITING


def problem_of(job: Job, pod: Pod, claim: str, warnings: Iterable[Event]) -> Problem | None:
    """Return why the pod waits, if one of the warnings says that its volume is still elsewhere."""
    told = map(message_of, warnings)
    said = next((message for message in told if message.startswith(STILL_ATTACHED)), None)
    if said is None:
        return None
    last = job.status.attempts[-1].node_name if job.status.attempts else None
    node = last if last != pod.node else None
    where = f"node {node}" if node else "another node"
    message = (
        f"Pod {pod.name} on node {pod.node} waits for claim {claim}, which is not ReadWriteMany "
        f"and is still attached to {where}. If that node is dead, the cluster detaches "
        "it after about 6 minutes. If you know that it is off, have it detached at once with "
        f"kubectl taint node {node or '<node>'} {OUT_OF_SERVICE}. It counts against no budget. "
        f"({said.rstrip(' .')}.)"
    )
    return Problem(Reason.VOLUME_STILL_ATTACHED, message)
