"""From objects on the wire to the core's facts. Whatever is missing reads as not yet known."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from rtj_api.heartbeat import FinalRecord, Heartbeat
from rtj_api.names import (
    ANNOTATION_DUMP_STACKS,
    ANNOTATION_HEARTBEAT,
    LABEL_ATTEMPT,
    TRAINER_CONTAINER,
)
from rtj_api.status import JobStatus

from rtj_operator.cluster import Manifest
from rtj_operator.core.observed import CRASHES, ContainerExit, Job, Pod, Waiting
from rtj_operator.core.validate import parse_spec

DISRUPTIONS = ("DisruptionTarget", "TerminationTarget")
"""Set by the eviction API, the taint manager, the scheduler and the kubelet; and by Kueue."""

RESTARTS_OF_A_LOOP = 2
"""One may be the node's: it restarts what ran on it when it comes back."""


def parse_job(raw: Manifest) -> Job:
    """Read a job. Raises pydantic.ValidationError for a status that this version cannot read."""
    meta = raw["metadata"]
    spec, error = parse_spec(meta["name"], raw.get("spec") or {})
    deleting = "deletionTimestamp" in meta
    return Job(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=meta.get("generation", 0),
        status=JobStatus.model_validate(raw.get("status") or {}),
        spec=spec,
        spec_error=error,
        deleting=deleting,
        orphans=deleting and "orphan" in (meta.get("finalizers") or []),
    )


def owner_of(raw: Mapping[str, Any]) -> str:
    """Return the uid of the object's controller; empty if it has none."""
    owners = raw["metadata"].get("ownerReferences") or []
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def owned_by(raw: Manifest, uid: str) -> bool:
    """Whether the object's controller is the job with this uid."""
    return owner_of(raw) == uid


def parse_heartbeat(lease: Mapping[str, Any], job_uid: str) -> Heartbeat | None:
    """Read the job's beat from its Lease; None before the first, or if it makes no sense.

    A trainer of a deleted job may still speak where a new job of the same name listens.
    """
    text = (lease["metadata"].get("annotations") or {}).get(ANNOTATION_HEARTBEAT)
    if not text:
        return None
    try:
        beat = Heartbeat.model_validate_json(text)
    except ValidationError:
        return None
    return beat if beat.job_uid in (None, job_uid) else None


def is_lost(node: Manifest) -> bool:
    """Whether the control plane has heard nothing of a node for so long that it knows no more."""
    conditions = (node.get("status") or {}).get("conditions") or []
    return any((c.get("type"), c.get("status")) == ("Ready", "Unknown") for c in conditions)


def parse_stacks_asked(lease: Mapping[str, Any]) -> str | None:
    """Read from the Lease which standstill the trainer is asked about."""
    return (lease["metadata"].get("annotations") or {}).get(ANNOTATION_DUMP_STACKS)


def parse_pod(raw: Manifest) -> Pod:
    """Read a pod of a job."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    statuses = status.get("containerStatuses") or []
    before = status.get("initContainerStatuses") or []
    container: dict[str, Any] = next(
        (c for c in statuses if c.get("name") == TRAINER_CONTAINER), {}
    )
    state = _state(container)
    conditions = status.get("conditions") or []
    ran = state.get("running") or state.get("terminated") or {}
    label = str((meta.get("labels") or {}).get(LABEL_ATTEMPT, ""))
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        attempt=int(label) if label.isdecimal() else 0,
        node=spec.get("nodeName"),
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        deleting="deletionTimestamp" in meta,
        grace_seconds=float(meta.get("deletionGracePeriodSeconds") or 0),
        disruption=_disruption(conditions),
        waiting=_waiting([*before, container], conditions),
        started="running" in state or "terminated" in state,
        exit=_exit(state),
        companions=any(_may_run(c) for c in statuses if c is not container),
        exits=_exits([*before, *statuses]),
        conditions=frozenset((c.get("type", ""), c.get("status", "")) for c in conditions),
        created_time=_time(meta.get("creationTimestamp")),
        scheduled_time=_scheduled(conditions),
        started_time=_time(ran.get("startedAt")),
    )


def _state(container: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a container that is never started again, once it has run.

    A kubelet that has lost sight of it writes for a moment that it waits to be created, and only
    under lastState that it was running.
    """
    state = container.get("state") or {}
    ended = (container.get("lastState") or {}).get("terminated")
    return {"terminated": ended} if ended and "waiting" in state else state


def _time(text: str | None) -> datetime | None:
    """Read a metav1.Time; one that cannot be read is not known."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def _scheduled(conditions: list[dict[str, Any]]) -> datetime | None:
    for condition in conditions:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "True":
            return _time(condition.get("lastTransitionTime"))
    return None


def _disruption(conditions: list[dict[str, Any]]) -> Waiting | None:
    for condition in conditions:
        if condition.get("type") in DISRUPTIONS and condition.get("status") == "True":
            return Waiting(condition.get("reason", ""), condition.get("message", ""))
    return None


def _waiting(containers: list[dict[str, Any]], conditions: list[dict[str, Any]]) -> Waiting | None:
    """Return why the first container that does not run yet waits: init containers come first.

    One after which another has begun was started once, and keeps nobody waiting.
    """
    begun = [place for place, container in enumerate(containers) if _has_begun(container)]
    for container in containers[max(begun, default=0) :]:
        if waiting := (container.get("state") or {}).get("waiting"):
            return Waiting(
                waiting.get("reason", ""), waiting.get("message", ""), container.get("name", "")
            )
        if _crashes(container):
            times = f"restarted {container['restartCount']} times"
            return Waiting(CRASHES, times, container.get("name", ""))
    for condition in conditions:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Waiting(condition.get("reason", ""), condition.get("message", ""))
    return None


def _has_begun(container: dict[str, Any]) -> bool:
    state = container.get("state") or {}
    return "running" in state or "terminated" in state or bool(container.get("restartCount"))


def _crashes(container: dict[str, Any]) -> bool:
    """Whether it failed again and again, and has not started yet though it may run just now."""
    ended = (container.get("state") or {}).get("terminated")
    through = container.get("started") or (ended and ended.get("exitCode") == 0)
    return container.get("restartCount", 0) >= RESTARTS_OF_A_LOOP and not through


def _may_run(container: dict[str, Any]) -> bool:
    return "terminated" not in (container.get("state") or {})


def _exits(containers: list[dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    ended = ((c.get("name", ""), (c.get("state") or {}).get("terminated")) for c in containers)
    return tuple((name, end.get("exitCode", 0)) for name, end in ended if end)


def _exit(state: dict[str, Any]) -> ContainerExit | None:
    terminated = state.get("terminated")
    if not terminated:
        return None
    message = terminated.get("message", "")
    try:
        final = FinalRecord.model_validate_json(message) if message else None
    except ValidationError:
        final = None
    return ContainerExit(
        code=terminated.get("exitCode", 0),
        reason=terminated.get("reason", ""),
        message=message,
        final=final,
    )
