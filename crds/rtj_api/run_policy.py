"""`spec.runPolicy` and `spec.hangPolicy`: how long a job may run, and stand still."""

from pydantic import Field

from rtj_api.wire import WireModel


class RunPolicy(WireModel):
    """How long and how often the job may run."""

    suspend: bool = Field(
        False,
        description=(
            "True stops the job: the trainer commits and its pod goes; false lets it go on from "
            "that commit. Default: false."
        ),
    )
    backoff_limit: int = Field(
        3,
        ge=0,
        le=1000,
        description=(
            "How many failures of the user's program are retried, with a growing pause of 10, 20, "
            "40 … 360 seconds and up to half as much again. Preemptions are not counted, unless a "
            "rule of failurePolicy says so. Default: 3."
        ),
    )
    active_deadline_seconds: int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description=(
            "Seconds after which a job that is not complete fails, counted from its first attempt, "
            "pauses included. Default: no limit."
        ),
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=2**31 - 1,
        description=(
            "Seconds after its end when the job is deleted; its commits stay. Default: it is kept."
        ),
    )


class HangPolicy(WireModel):
    """When a trainer that is alive but does nothing is replaced.

    Each phase of the trainer has its own timeout. All count from the last change of phase or step
    that the operator saw, on the operator's clock, whether the heartbeat still arrives or not.
    """

    starting_timeout_seconds: int = Field(
        1800,
        ge=10,
        le=604_800,
        description=(
            "Seconds that a trainer may take from the start of its container until it trains or "
            "restores: importing the builder, building the dataset and the model. Pulling the "
            "image does not count. Default: 1800."
        ),
    )
    restoring_timeout_seconds: int = Field(
        3600,
        ge=10,
        le=604_800,
        description=(
            "Seconds that a trainer may take to build the dataset and the model again and restore "
            "a commit. With the position strategy replay it reads the data again up to the "
            "position in this time. Default: 3600."
        ),
    )
    training_timeout_seconds: int = Field(
        1800,
        ge=10,
        le=604_800,
        description=(
            "Seconds without a new step. It must be longer than the slowest step, and than the "
            "first, which may compile the model and fill a shuffle buffer. Default: 1800."
        ),
    )
    saving_timeout_seconds: int = Field(
        1800,
        ge=10,
        le=604_800,
        description=(
            "Seconds that training may wait for a commit, and that the end of the process may take "
            "after the last one. Default: 1800."
        ),
    )
