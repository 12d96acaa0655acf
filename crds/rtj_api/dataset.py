"""`spec.dataset`: what happens to the examples between the builder's function and the model."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from rtj_api.wire import WireModel

_UNITS = {"": 1} | {
    unit: base ** (power + 1)
    for units, base in ((("k", "M", "G", "T", "P"), 1000), (("Ki", "Mi", "Gi", "Ti", "Pi"), 1024))
    for power, unit in enumerate(units)
}
_QUANTITY = r"^([0-9]+(?:\.[0-9]+)?)(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"

Quantity = Annotated[str, Field(min_length=1, max_length=32, pattern=_QUANTITY)]
"""A number of bytes as a Kubernetes quantity, without the units that make no sense for bytes."""


def in_bytes(quantity: str) -> int:
    """Return a quantity in bytes, rounded down.

    Raises:
        ValueError: it is no quantity.
    """
    match = re.match(_QUANTITY, quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity of bytes, as 500Mi and 10Gi are")
    return int(Decimal(match[1]) * _UNITS[match[2] or ""])


class DatasetCache(WireModel):
    """Examples that are written to the volume once, and read from there in every epoch."""

    batch_size: int = Field(
        ge=1,
        le=1_000_000_000,
        description=(
            "Examples per batch; the last batch of an epoch may be shorter. datasetFunction must "
            "return single examples then, without batch(). It cannot change later; a fork may have "
            "another by spec.fingerprintPolicy.batchSize."
        ),
    )
    shuffle: bool = Field(
        True,
        description=(
            "Another order of all examples in every epoch, made from spec.seed. It cannot change "
            "later. Default: true."
        ),
    )
    drop_remainder: bool = Field(
        False,
        description=(
            "Drop the last batch of an epoch if it is shorter. It cannot change later. Default: "
            "false."
        ),
    )
    max_size: Quantity | None = Field(
        None,
        description=(
            "Bytes that all caches on the claim may have together, such as 10Gi. The ones that "
            "were not used for longest are deleted to make room, but none that a job uses. A job "
            "whose own cache is larger fails. Default: no limit."
        ),
    )
    url: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        pattern=r"^[a-z][a-z0-9+.-]*://[!-~]*$",
        description=(
            "Where shards are shared with jobs on other claims: redis://host:6379/0, or any URL of "
            "fsspec, such as s3://bucket/folder. ${NAME} is taken from the trainer's environment. "
            "Default: they are on the claim only."
        ),
    )


class Dataset(WireModel):
    """What happens to the examples between the builder's function and the model."""

    cache: DatasetCache | None = Field(
        None,
        description=(
            "Write the examples of datasetFunction to the claim once, shared by all jobs with the "
            "same code, parameters and data, and shuffle and batch them from there. It cannot be "
            "set or taken out later. Default: datasetFunction runs in every epoch."
        ),
    )
