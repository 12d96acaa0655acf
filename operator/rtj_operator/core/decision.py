"""What `decide` answers: the status to write first, then the actions, all of them idempotent."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from rtj_api.names import Phase, Reason
from rtj_api.status import JobStatus

Manifest = dict[str, Any]
"""A Kubernetes object as it goes over the wire."""


@dataclass(frozen=True)
class EnsureObjects:
    """Create those of these that are not there, in this order; none if one is somebody else's."""

    manifests: tuple[Manifest, ...]


@dataclass(frozen=True)
class CreatePod:
    """Create this pod. AlreadyExists with the same owner is success."""

    manifest: Manifest


@dataclass(frozen=True)
class AskForStacks:
    """Write the question where the trainer sees it: on the job's Lease."""

    standstill: str


@dataclass(frozen=True)
class DeletePod:
    """Ask for the end of exactly this pod; the uid keeps a namesake safe."""

    name: str
    uid: str


@dataclass(frozen=True)
class DeleteJob:
    """Delete the job itself: its time to live is over."""


Action = EnsureObjects | CreatePod | AskForStacks | DeletePod | DeleteJob


NOTICE_LENGTH = 1024
"""Characters of an Event's message."""


@dataclass(frozen=True)
class Notice:
    """An Event to be posted about the job."""

    reason: Reason
    message: str
    attempt: int
    severity: Literal["Normal", "Warning"] = "Normal"
    once: bool = False
    """Whether one Event of this reason is enough for an attempt, however its words change."""

    def object_name(self, job_name: str, job_uid: str) -> str:
        """Return a name that is the same when the same turn is announced twice."""
        words = "" if self.once else self.message
        turn = f"{job_uid} {self.attempt} {self.reason} {words}"
        return f"{job_name}.{hashlib.sha256(turn.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Decision:
    """The whole answer of one look."""

    status: JobStatus
    actions: tuple[Action, ...] = ()
    notices: tuple[Notice, ...] = ()
    requeue_after: float | None = None
    """Seconds until the job must be looked at again though nothing happened."""
    mirrored: bool = False
    """Whether the status carries a position that was not there before."""


def waits(before: JobStatus, decision: Decision) -> bool:
    """Whether the decision is to wait on: nothing to do, and no attempt begun or ended.

    Nor anything to say, but that the attempt trains: once its trainer has said so, that it began to
    stays true, however old the word is.
    """
    after = decision.status
    numbers = [status.attempt.number if status.attempt else None for status in (before, after)]
    return (
        not decision.actions
        and all(notice.reason is Reason.TRAINING for notice in decision.notices)
        and after.phase in (before.phase, Phase.RUNNING)
        and (after.attempts, after.restarts) == (before.attempts, before.restarts)
        and numbers[0] == numbers[1]
    )
