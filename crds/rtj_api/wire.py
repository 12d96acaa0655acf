"""How every model of the contract looks on the wire."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """Base of everything that leaves a process.

    Names are camelCase outside; fields that only a newer peer knows are ignored, and so that its
    words are read, those of status and heartbeat are an `OpenEnum`.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )
