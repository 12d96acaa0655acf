"""`spec.checkpoint`: where commits are kept, how often one is made, and which stay for good."""

from typing import Literal

from pydantic import Field

from rtj_api.object_name import ObjectName
from rtj_api.wire import WireModel

DEFAULT_EVERY_SECONDS = 60
"""Seconds between two commits where neither everySteps nor everySeconds is set."""


class AutoCommits(WireModel):
    """Commits as often as a bound on their cost allows."""

    max_overhead_percent: int = Field(
        3,
        ge=1,
        le=50,
        description=(
            "Upper bound on the time that commits add, in percent of the training time between "
            "them: pauses of the training and what writing beside it slows down, both measured as "
            "it trains. "
            "Default: 3."
        ),
    )


class KeepBest(WireModel):
    """Which commits to keep for what was measured at the end of an epoch."""

    metric: str = Field(
        min_length=1,
        max_length=128,
        description=(
            "Name of a result of an epoch, such as val_loss; those of "
            "spec.builder.validationFunction begin with val_."
        ),
    )
    mode: Literal["min", "max"] = Field(
        description="Whether the lowest (min) or the highest (max) value is the best."
    )
    count: int = Field(
        1,
        ge=1,
        le=100,
        description="How many epochs to keep the commit of, the best first. Default: 1.",
    )


class CheckpointPolicy(WireModel):
    """Where and how often the training state is committed."""

    claim_name: ObjectName = Field(
        description=(
            "PersistentVolumeClaim for the commits, in the job's namespace. Use ReadWriteMany if "
            "the next attempt may run on another node. The trainer's user, 65532 unless "
            "spec.trainer.podTemplate names another, must be able to write to it. Deleting the job "
            "keeps it. It cannot change later."
        )
    )
    every_steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description=(
            "Commit after this many steps. Training waits if the commit before is still being "
            "written. With everySeconds, whichever is first. Default: by everySeconds alone."
        ),
    )
    every_seconds: int | None = Field(
        None,
        ge=1,
        le=86_400,
        description=(
            "Commit when this many seconds have passed since the last commit, between two steps; "
            "put off while one is still being written. Default: 60, or no such limit where "
            "everySteps or auto is set."
        ),
    )
    auto: AutoCommits | None = Field(
        None,
        description=(
            "Instead of everySteps and everySeconds: commit as often as possible within "
            "maxOverheadPercent, but at least 10 seconds apart. status.commitInterval reports the "
            "interval. {} means at most 3 percent. Default: by everySteps and everySeconds."
        ),
    )
    keep: int = Field(
        3,
        ge=2,
        le=1000,
        description="How many of the newest commits to keep. Default: 3, at least 2.",
    )
    keep_every_steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description=(
            "Also keep one commit for each multiple of this many steps, permanently: the first at "
            "or after it. Only going back past them deletes them, so the claim must have room. "
            "Default: none."
        ),
    )
    keep_best: KeepBest | None = Field(
        None,
        description=(
            "Commit at the end of each epoch whose result is among the best so far, and keep the "
            "commits of the best, over all attempts, beside the newest. status.bestCommits names "
            "them. Default: none."
        ),
    )
