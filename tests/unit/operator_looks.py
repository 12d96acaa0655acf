"""Looks at a job, built in one line each, for the tests of the operator's decisions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from rtj_api.heartbeat import CommitRef, FinalRecord, Heartbeat, Position, TrainerPhase
from rtj_api.names import Condition, ExitCode, Phase, Reason
from rtj_api.spec import JobSpec
from rtj_api.status import ConditionStatus, CurrentAttempt, JobStatus
from rtj_operator.core.decide import decide
from rtj_operator.core.decision import CreatePod, Decision, DeletePod
from rtj_operator.core.observed import ContainerExit, Job, Observed, Pod

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
NODE = "node-a"


def spec(**fields: Any) -> JobSpec:
    """Return a spec for 100 steps; fields are JSON by their wire names."""
    return JobSpec.model_validate(
        {
            "builder": {"configMap": {"name": "code"}},
            "totalSteps": 100,
            "checkpoint": {"claimName": "work"},
            "trainer": {"image": "trainer:1", "gracePeriodSeconds": 60},
            **fields,
        }
    )


def commit(step: int, attempt: int = 1) -> CommitRef:
    """Return a commit."""
    return CommitRef(id=f"{step:012d}-{attempt:06d}", step=step, time=NOW)


def beat(step: int = 10, attempt: int = 1, **fields: Any) -> Heartbeat:
    """Return the heartbeat of a trainer that trains."""
    return Heartbeat(
        **{
            "attempt": attempt,
            "phase": TrainerPhase.TRAINING,
            "position": Position(step=step),
            **fields,
        }
    )


def final(code: int, reason: Reason, message: str = "said the trainer") -> FinalRecord:
    """Return a last word."""
    return FinalRecord(exit_code=code, reason=reason, message=message)


DONE = final(ExitCode.COMPLETED, Reason.COMPLETED)


def pod(attempt: int = 1, **fields: Any) -> Pod:
    """Return a pod that runs on node-a."""
    return Pod(
        **{
            "name": f"job-{attempt}-0",
            "uid": f"pod-{attempt}",
            "attempt": attempt,
            "node": NODE,
            "phase": "Running",
            "started": True,
            **fields,
        }
    )


def exited(
    code: int, record: FinalRecord | None = None, reason: str = "Error", **fields: Any
) -> Pod:
    """Return a pod whose trainer exited."""
    end = ContainerExit(code, reason, record.model_dump_json() if record else "", record)
    return pod(phase="Failed" if code else "Succeeded", exit=end, **fields)


def held(
    kind: Condition, status: Literal["True", "False", "Unknown"], reason: Reason, message: str
) -> ConditionStatus:
    """Return a condition that has been as it is since the trainer was seen alive."""
    since = NOW - timedelta(seconds=90)
    return ConditionStatus(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=1,
    )


def running(attempt: int = 1, **fields: Any) -> JobStatus:
    """Return the status of a job whose attempt trains."""
    return JobStatus(
        **{
            "phase": Phase.RUNNING,
            "observed_generation": 1,
            "start_time": NOW - timedelta(seconds=100),
            "attempt": CurrentAttempt(
                number=attempt,
                pod_name=f"job-{attempt}-0",
                pod_uid=f"pod-{attempt}",
                node_name=NODE,
                decided_time=NOW - timedelta(seconds=100),
                running_time=NOW - timedelta(seconds=90),
                first_step=0,
                last_step=5,
            ),
            "conditions": [
                held(
                    Condition.RUNNING,
                    "True",
                    Reason.TRAINING,
                    f"Attempt {attempt} trains on node {NODE}.",
                ),
                held(Condition.PROGRESSING, "True", Reason.TRAINING, f"Attempt {attempt} goes on."),
                held(
                    Condition.CHECKPOINT_FRESH,
                    "Unknown",
                    Reason.NOT_MEASURED,
                    "The trainer image does not tell how long it has trained since its newest "
                    "commit.",
                ),
            ],
            **fields,
        }
    )


def starting(attempt: int = 1, **fields: Any) -> JobStatus:
    """Return the status of a job whose attempt has a pod, and a trainer that never spoke."""
    status = running(attempt, phase=Phase.STARTING, conditions=[], **fields)
    unheard = {"running_time": None, "first_step": None, "last_step": None}
    assert status.attempt
    return status.model_copy(update={"attempt": status.attempt.model_copy(update=unheard)})


def look(
    *pods: Pod,
    status: JobStatus | None = None,
    spec: JobSpec | None = spec(),  # noqa: B008 - frozen
    spec_error: str = "",
    **fields: Any,
) -> Observed:
    """Return a look at a job in namespace ns; without a status it is new."""
    job = Job("ns", "job", "uid", 1, status or JobStatus(), spec, spec_error)
    return Observed(**{"job": job, "pods": pods, "lease_found": True, **fields})


def after(observed: Observed, decision: Decision, *pods: Pod, **fields: Any) -> Observed:
    """Return the look that follows when the decision was carried out."""
    job = replace(observed.job, status=decision.status)
    return replace(observed, job=job, pods=pods, **fields)


def decided(observed: Observed, seconds: float = 0) -> Decision:
    """Decide, some seconds later than now."""
    return decide(observed, NOW + timedelta(seconds=seconds))


def created(decision: Decision) -> list[str]:
    """Return the names of the pods that a decision creates."""
    return [
        action.manifest["metadata"]["name"]
        for action in decision.actions
        if isinstance(action, CreatePod)
    ]


def deleted(decision: Decision) -> list[str]:
    """Return the uids of the pods that a decision deletes."""
    return [action.uid for action in decision.actions if isinstance(action, DeletePod)]


def condition(decision: Decision, kind: Condition) -> ConditionStatus | None:
    """Return one condition of the decided status."""
    return next((c for c in decision.status.conditions if c.type is kind), None)


def notices(decision: Decision) -> list[Reason]:
    """Return the reasons of the Events, in order."""
    return [notice.reason for notice in decision.notices]


def pause(decision: Decision) -> float:
    """Return the seconds until the next attempt may start; 0 if it need not wait."""
    due = decision.status.next_attempt_time
    return (due - NOW).total_seconds() if due else 0.0
