"""Changes of the spec of a live job: what an attempt was launched with, and what waits.

`rtj_api.changes` says of each field when a change takes effect. Status keeps a digest of all that
an attempt takes from the spec when it is launched, so that a user learns that a change waits.
"""

import hashlib
from typing import Any

from rtj_api.names import Reason
from rtj_api.spec import JobSpec
from rtj_api.status import CurrentAttempt

from rtj_operator.core import restore
from rtj_operator.core.plan import Plan

_IDLE = "Stopped before its trainer was seen to run, since {}."


def launched_with(spec: JobSpec) -> str:
    """Return a digest of what an attempt is launched with.

    Defaults are left out, so that one that only a newer operator knows changes nothing.
    """
    taken = spec.model_dump_json(
        include={
            "epochs": True,
            "total_steps": True,
            "dataset": {"cache": {"max_size", "url"}},
            "checkpoint": True,
            "trainer": True,
            "fingerprint_policy": True,
        },
        exclude_defaults=True,
    )
    return _digest(taken)


def launched_trainer(spec: JobSpec) -> str:
    """Return a digest of what an attempt's pod is made of; it may not start without a change."""
    return _digest(spec.trainer.model_dump_json(exclude_defaults=True))


def _digest(taken: str) -> str:
    return hashlib.sha256(taken.encode()).hexdigest()[:16]


def target(spec: JobSpec) -> str:
    """Return where the training ends, in words."""
    return f"{spec.epochs} epochs" if spec.epochs else f"{spec.total_steps} steps"


def fields_at_launch(plan: Plan, spec: JobSpec) -> dict[str, Any]:
    """Return the fields of `status.attempt` that say what it is launched with."""
    return {
        "generation": plan.observed.job.generation,
        "target": target(spec),
        "launched_with": launched_with(spec),
        "launched_trainer": launched_trainer(spec),
    }


def waits(attempt: CurrentAttempt, spec: JobSpec) -> bool:
    """Whether the spec has changed in something that the attempt was launched with."""
    return attempt.launched_with not in (None, launched_with(spec))


def target_moved(attempt: CurrentAttempt, spec: JobSpec) -> bool:
    """Whether the training has another end now than the attempt knows of."""
    return attempt.target not in (None, target(spec))


def why_stopped(plan: Plan, spec: JobSpec) -> tuple[Reason, str] | None:
    """Return why the current attempt must make room for the next, if the user wants that.

    One that was told to stop while it waited may have begun meanwhile: it is stopped all the same.
    """
    request, attempt = plan.status.restore, plan.status.attempt
    if request and restore.must_make_room(plan):
        return Reason.RESTORE_REQUESTED, f"Stopped to go back to commit {request.from_commit}."
    if attempt and attempt.stop_message:
        return Reason.SPEC_CHANGED, attempt.stop_message
    if attempt and _waits_idly(plan, attempt):
        if _other_trainer(attempt, spec):
            return Reason.SPEC_CHANGED, _IDLE.format("spec.trainer changed")
        if restore.withdrawn(plan, spec):
            return Reason.SPEC_CHANGED, _IDLE.format("spec.restore was taken out")
    return None


def _other_trainer(attempt: CurrentAttempt, spec: JobSpec) -> bool:
    """Whether the pod would be made another way now.

    Whatever else has changed can wait: a new pod would queue for its node from the end.
    """
    return attempt.launched_trainer not in (None, launched_trainer(spec))


def _waits_idly(plan: Plan, attempt: CurrentAttempt) -> bool:
    """Whether the attempt has, or had, a pod whose trainer never ran: nothing is lost with it."""
    pod, beat = plan.observed.pod, plan.observed.beat
    known = pod is not None or attempt.pod_uid is not None
    ran = beat is not None or attempt.running_time is not None or (pod is not None and pod.started)
    return known and not ran
