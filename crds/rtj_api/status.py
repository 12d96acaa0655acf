"""`status` of a ResumableTrainingJob: what the operator has decided and what it has seen.

The operator writes a decision here before it acts on it, so a new operator process can finish
what a killed one began. The trainer's words (position, commit) are mirrored from the heartbeat.
"""

from datetime import datetime
from typing import Literal

from pydantic import Field

from rtj_api.failure import MAX_WINDOWED_RESTARTS
from rtj_api.heartbeat import BestCommit, CommitInterval, CommitRef, Position
from rtj_api.names import Cause, Condition, Phase, Reason
from rtj_api.restore import MAX_COMMITS_SHOWN, ForkStatus, RestoreStatus
from rtj_api.time_spent import TimeSpent
from rtj_api.wire import WireModel

MAX_ATTEMPTS_KEPT = 10
MAX_BEST_SHOWN = 20
MAX_CONDITIONS = 32
"""More than the operator has: others may set conditions, too, and so may a newer operator."""


class ConditionStatus(WireModel):
    """One condition, as `metav1.Condition`."""

    type: Condition = Field(
        description=(
            "What it says: Running, Restarting, Suspended, Progressing, CheckpointFresh, Complete, "
            "Failed, Restored or PositionRegressed."
        )
    )
    status: Literal["True", "False", "Unknown"] = Field(
        description="Whether it holds: True, False or Unknown."
    )
    reason: Reason = Field(description="Why, in one CamelCase word.")
    message: str = Field(
        "", max_length=4096, description="Why, in a sentence, and what to do about it."
    )
    last_transition_time: datetime = Field(description="When its status last changed.")
    observed_generation: int = Field(0, description="Generation of the spec that it is about.")


class CurrentAttempt(WireModel):
    """The attempt that is wanted; written before its pod is created."""

    number: int = Field(ge=1, description="Attempt number; only grows.")
    pod_name: str = Field(description="Name of its pod.")
    pod_uid: str | None = Field(None, description="UID of its pod, once it was seen.")
    node_name: str | None = Field(None, description="Node of its pod, once it was scheduled.")
    decided_time: datetime = Field(description="When the operator decided to launch it.")
    generation: int = Field(
        0,
        description=(
            "Generation of the spec that it was launched with. Later changes of the spec do not "
            "reach it, except those that take effect at once."
        ),
    )
    target: str | None = Field(
        None, max_length=64, description="Where it ends: so many epochs or steps."
    )
    launched_with: str | None = Field(
        None,
        max_length=64,
        description="Digest of all that an attempt takes from the spec when it is launched.",
    )
    launched_trainer: str | None = Field(
        None,
        max_length=64,
        description=(
            "Digest of `spec.trainer` then. If that changes before the trainer has run, the pod "
            "is replaced."
        ),
    )
    stop_message: str | None = Field(
        None,
        max_length=256,
        description="Why its pod is deleted, if that is for a change of the spec.",
    )
    running_time: datetime | None = Field(
        None, description="When its trainer was first seen alive."
    )
    first_step: int | None = Field(None, description="Step that it started from.")
    last_step: int | None = Field(None, description="Newest step that it reported.")
    time: TimeSpent | None = Field(
        None, description="Where its time went, up to the last change of status."
    )


class EndedAttempt(WireModel):
    """An attempt that is over, and what ended it."""

    number: int = Field(ge=1, description="Attempt number.")
    cause: Cause = Field(
        description=(
            "What ended it: Completed, Preempted, UserError, Permanent, Hung or Suspended. "
            "It decides whether and when the next attempt starts."
        )
    )
    reason: Reason = Field(description="Why, in one CamelCase word.")
    message: str = Field("", max_length=2048, description="Why, in a sentence.")
    rule_action: str | None = Field(
        None,
        max_length=64,
        description=(
            "What the first matching rule of failurePolicy said: Ignore, Count, Fail or Recreate."
        ),
    )
    exit_code: int | None = Field(None, description="Exit code of its trainer, if it was seen.")
    node_name: str | None = Field(None, description="Node that it ran on.")
    first_step: int | None = Field(None, description="Step that it started from.")
    last_step: int | None = Field(None, description="Newest step that it reported.")
    committed_step: int | None = Field(None, description="Step of its newest commit.")
    start_time: datetime = Field(description="When the operator decided to launch it.")
    end_time: datetime = Field(description="When the operator saw that it had ended.")
    time: TimeSpent | None = Field(
        None,
        description=(
            "Where its time went, from startTime to endTime. lostSeconds is what the next attempt "
            "trains again."
        ),
    )


class Restarts(WireModel):
    """Ended attempts that were followed by another, counted apart by the budget they used."""

    preempted: int = Field(
        0,
        ge=0,
        description=(
            "Preemptions, evictions, lost nodes, and what a rule says to Recreate; against "
            "failurePolicy.maxDisruptionRestarts, if that is set."
        ),
    )
    user_error: int = Field(
        0,
        ge=0,
        description="Failures of the program, and what a rule says to Count; against backoffLimit.",
    )
    hung: int = Field(0, ge=0, description="Hung trainers, against backoffLimit.")
    ignored: int = Field(0, ge=0, description="What a rule says to Ignore; against no budget.")
    no_progress: int = Field(
        0, ge=0, description="Attempts in a row that ended without a new commit."
    )
    never_started: int = Field(
        0,
        ge=0,
        description=(
            "Attempts in a row, up to the newest, that ended before any container of theirs had "
            "run. From the third on, the next one waits ever longer."
        ),
    )
    total: int = Field(0, ge=0, description="All restarts.")
    failure_times: list[datetime] = Field(
        default_factory=list,
        max_length=MAX_WINDOWED_RESTARTS,
        description=(
            "Ends of the attempts that now count against backoffLimit, newest last; kept only "
            "with failurePolicy.windowSeconds."
        ),
    )
    disruption_times: list[datetime] = Field(
        default_factory=list,
        max_length=MAX_WINDOWED_RESTARTS,
        description=(
            "Ends of the attempts that now count against maxDisruptionRestarts, newest last; kept "
            "only with failurePolicy.windowSeconds."
        ),
    )


class JobStatus(WireModel):
    """Status of a ResumableTrainingJob."""

    observed_generation: int = Field(0, description="Generation of the spec last acted on.")
    phase: Phase = Field(
        Phase.PENDING,
        description=(
            "The state in one word: Pending, Starting, Running, Restarting, Suspended, Completed "
            "or Failed."
        ),
    )
    conditions: list[ConditionStatus] = Field(
        default_factory=list,
        max_length=MAX_CONDITIONS,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        description="The state in detail; kubectl wait --for=condition=Complete reads it.",
    )
    attempt: CurrentAttempt | None = Field(
        None, description="The attempt that is wanted; absent between attempts."
    )
    attempts: list[EndedAttempt] = Field(
        default_factory=list,
        max_length=MAX_ATTEMPTS_KEPT,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="The last ten attempts that are over, newest last.",
    )
    restarts: Restarts = Field(
        Restarts(), description="How often a new attempt was needed, counted by budget."
    )
    position: Position | None = Field(None, description="The running model's next step.")
    progress: str | None = Field(None, max_length=8, description="Share of all steps, such as 42%.")
    estimated_completion_time: datetime | None = Field(
        None,
        description=(
            "When the last step will be taken at the speed of the last five minutes, commits "
            "included and further interruptions not; absent while nothing is trained or the "
            "number of steps is unknown."
        ),
    )
    last_commit: CommitRef | None = Field(None, description="Newest commit that a restart can use.")
    commits: list[str] = Field(
        default_factory=list,
        max_length=MAX_COMMITS_SHOWN,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description=(
            "The newest commits on the volume, newest first, at most 20: what "
            "spec.restore.fromCommit, or spec.forkFrom.commit of another job, can name."
        ),
    )
    best_commits: list[BestCommit] = Field(
        default_factory=list,
        max_length=MAX_BEST_SHOWN,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description=(
            "The commits that are kept for their results (spec.checkpoint.keepBest), best first, "
            "at most 20."
        ),
    )
    commit_interval: CommitInterval | None = Field(
        None,
        description="How often the trainer commits, if it finds that out (spec.checkpoint.auto).",
    )
    restore: RestoreStatus | None = Field(
        None, description="The newest request to go back (spec.restore); absent without one."
    )
    forked_from: ForkStatus | None = Field(
        None, description="Where the job's first commit came from, if it is a fork."
    )
    strategy: str | None = Field(
        None, description="How the trainer keeps its position: index, iterator or replay."
    )
    strategy_message: str | None = Field(
        None, description="Why the trainer keeps its position in that way."
    )
    time: TimeSpent | None = Field(
        None,
        description=(
            "Where the time since startTime went, up to the last change of status. The kinds add "
            "up to the whole."
        ),
    )
    goodput: str | None = Field(
        None,
        max_length=8,
        description=(
            "Useful share of that time, such as 93%, without what is unknown; absent while most "
            "is unknown."
        ),
    )
    next_attempt_time: datetime | None = Field(
        None, description="When the next attempt may start, during a back-off."
    )
    start_time: datetime | None = Field(None, description="When the first attempt was decided.")
    completion_time: datetime | None = Field(None, description="When the job ended.")
