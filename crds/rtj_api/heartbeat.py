"""What a trainer tells the world while it runs, and once when it ends.

The heartbeat travels in an annotation of the job's Lease; the final record also goes into the
container's termination message, so it is there when the API server was not.
"""

from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import Field

from rtj_api.restore import RestoreAnswer
from rtj_api.time_spent import TrainerSeconds
from rtj_api.wire import SpokenReason, WireModel


class TrainerPhase(StrEnum):
    """What the trainer is doing; each phase has its own idea of being stuck."""

    STARTING = "Starting"
    RESTORING = "Restoring"
    TRAINING = "Training"
    SAVING = "Saving"
    FINISHED = "Finished"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        """Read a phase that only a newer trainer knows as the usual one, for its timeout."""
        return cls("Training") if isinstance(value, str) else None


class Position(WireModel):
    """The next thing to train on: everything before it is in the weights."""

    step: int = Field(0, ge=0, description="Optimizer steps taken.")
    epoch: int = Field(0, ge=0, description="Epochs finished.")
    samples: int = Field(0, ge=0, description="Examples trained on, over all epochs.")
    total_steps: int | None = Field(
        None,
        ge=0,
        description="Steps of the whole job; absent while the length of an epoch is not known.",
    )


class CommitRef(WireModel):
    """Names one durable commit on the volume."""

    id: str = Field(
        description=(
            "Directory of the commit: step and attempt, `-final` for the last one and `-epoch` for "
            "one that is made for the results of an epoch."
        )
    )
    step: int = Field(ge=0, description="Optimizer steps that are in it.")
    time: datetime = Field(description="When it became durable.")


class BestCommit(WireModel):
    """A commit that is kept for a result (`spec.checkpoint.keepBest`)."""

    id: str = Field(description="Directory of the commit.")
    value: float = Field(description="The result of the epoch that it ends.")


class CommitInterval(WireModel):
    """How often a trainer commits that finds that out itself (`spec.checkpoint.auto`)."""

    seconds: float = Field(ge=0, description="Seconds from one commit to the next.")
    message: str = Field("", max_length=512, description="Why: what was measured, in a sentence.")


class FinalRecord(WireModel):
    """How the trainer ended, in its own words."""

    exit_code: int
    reason: SpokenReason
    message: str = Field(max_length=2048)
    spent: TrainerSeconds | None = None
    """All the time of the attempt; only in its last word."""
    newest_attempt: int | None = None
    """The newest attempt that the volume knows, of one that ended for it. It may be one that the
    cluster has forgotten, such as after it was restored from a backup."""


class StackDump(WireModel):
    """What a trainer did when it was asked for the stacks of its threads."""

    standstill: str = Field(description="The `Heartbeat.standstill` that it was asked about.")
    path: str | None = Field(
        None, description="The file, from the claim's root; absent if only the log has the stacks."
    )


class CacheProgress(WireModel):
    """How far an attempt is with the dataset's cache (`spec.dataset.cache`), before it trains."""

    examples: int = Field(0, ge=0, description="Examples written, fetched or verified.")
    shards: int = Field(0, ge=0, description="Shards that it made durable.")


class Heartbeat(WireModel):
    """One beat of one attempt."""

    job_uid: str | None = None
    """Of the trainer's job, which may be gone with another in its place; absent from an older
    trainer image."""
    attempt: int = Field(ge=1)
    phase: TrainerPhase
    position: Position = Position()
    """Of the running model, ahead of the last commit."""
    commit: CommitRef | None = None
    """The newest durable commit in this attempt's lineage."""
    started_from: CommitRef | None = None
    """The commit that this attempt restored; None before that, and for a first start."""
    commits: list[str] = Field(default_factory=list)
    """The newest commits on the volume that a user may go back to, newest first."""
    best_commits: list[BestCommit] = Field(default_factory=list)
    """The commits that are kept for their results, best first."""
    commit_interval: CommitInterval | None = None
    """Absent where the job says how often to commit."""
    restore: RestoreAnswer | None = None
    """What became of the request to go back that this attempt was given."""
    strategy: str | None = None
    """How the position is kept: iterator, index or replay."""
    strategy_message: str | None = None
    """Why so."""
    cache: CacheProgress | None = None
    """Absent before the cache is looked at, and without one."""
    steps_per_second: float | None = Field(None, ge=0)
    """Over the last five minutes of the attempt, commits included."""
    spent: TrainerSeconds | None = None
    """Where the time of the attempt went; absent from a trainer that does not measure it."""
    warning: FinalRecord | None = None
    """Something to tell the user that did not stop the training."""
    stacks: StackDump | None = None
    """Answer to the newest request for stacks."""
    watchdog_path: str | None = None
    """Where the stacks are, from the claim's root, should the process be too stuck to answer."""
    final: FinalRecord | None = None
    """Set on the last beat only."""

    @property
    def standstill(self) -> str:
        """Name of the time from the last change of phase or step to the next; fit for a file.

        Examples that go into the cache before training count as steps do.
        """
        cached = f"-{self.cache.examples}" if self.cache else ""
        return f"{self.attempt:06d}-{self.phase}-{self.position.step}{cached}"
