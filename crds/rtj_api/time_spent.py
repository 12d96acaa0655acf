"""Where the time of a job goes: as its trainer measures it, and as status shows it.

The trainer measures on its own monotonic clock and tells totals, so a beat that is lost, late or
told twice changes nothing. Status holds whole seconds, since Kubernetes APIs have no fractions.
"""

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from rtj_api.wire import WireModel


class TrainerSeconds(WireModel):
    """Seconds of one attempt by what its trainer did, from the start of its process on."""

    starting: float = Field(0, ge=0)
    """Until it trains or restores."""
    restoring: float = Field(0, ge=0)
    """Building dataset and model again, and reading a commit."""
    replaying: float = Field(0, ge=0)
    """Reading the data again up to the position."""
    training: float = Field(0, ge=0)
    """Steps, and waiting for their batches."""
    saving: float = Field(0, ge=0)
    """Waiting for commits: until the state is taken, and for the one before or the last one."""
    committed: float = Field(0, ge=0)
    """The part of `training` that is in this attempt's newest commit."""

    @property
    def total(self) -> float:
        """Return all of it."""
        return self.starting + self.restoring + self.replaying + self.training + self.saving


class TimeSpent(WireModel):
    """Whole seconds by what they were spent on; together they are all the time that passed.

    A kind that is absent took no time.
    """

    useful_seconds: int = Field(
        0, ge=0, description="Seconds of training that is in a commit: nothing takes it away."
    )
    uncommitted_seconds: int = Field(
        0,
        ge=0,
        description=(
            "Seconds of training since the newest commit of the attempt that runs: useful with the "
            "next commit, lost if the attempt ends before."
        ),
    )
    lost_seconds: int = Field(
        0, ge=0, description="Seconds of training that no commit held when the attempt ended."
    )
    saving_seconds: int = Field(0, ge=0, description="Seconds that training waited for commits.")
    scheduling_seconds: int = Field(
        0, ge=0, description="Seconds from the decision to launch until the pod had a node."
    )
    pulling_seconds: int = Field(
        0,
        ge=0,
        description=(
            "Seconds from there until the trainer's process ran: pulling the image, attaching "
            "volumes, init containers."
        ),
    )
    starting_seconds: int = Field(
        0, ge=0, description="Seconds from there until it trained or restored."
    )
    restoring_seconds: int = Field(
        0, ge=0, description="Seconds of building dataset and model again and reading a commit."
    )
    replaying_seconds: int = Field(
        0,
        ge=0,
        description="Seconds of reading the data again up to the position (strategy replay).",
    )
    hung_seconds: int = Field(
        0, ge=0, description="Seconds without a new step before a hung trainer was replaced."
    )
    noticing_seconds: int = Field(
        0,
        ge=0,
        description=(
            "Seconds from the last word of an attempt until the operator knew that it had ended."
        ),
    )
    waiting_seconds: int = Field(
        0,
        ge=0,
        description=(
            "Seconds without a pod: a back-off, or something that the pod needs was missing."
        ),
    )
    suspended_seconds: int = Field(0, ge=0, description="Seconds at rest by runPolicy.suspend.")
    unknown_seconds: int = Field(
        0,
        ge=0,
        description=(
            "Seconds that nobody measured: the trainer image is too old to tell, or operator and "
            "trainer were away together."
        ),
    )

    @property
    def total(self) -> int:
        """Return all of it."""
        return sum(self.__dict__.values())

    @model_serializer(mode="wrap")
    def _only_what_took_time(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: seconds for name, seconds in handler(self).items() if seconds}
