"""How every model of the contract looks on the wire."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from rtj_api.names import Reason

MAX_WORD_LENGTH = 64
"""Of a word that a newer peer may bring into status."""
_WORD = re.compile(rf"[A-Za-z][A-Za-z0-9]{{0,{MAX_WORD_LENGTH - 1}}}")


def _reason_for_status(reason: Reason) -> Reason:
    return reason if _WORD.fullmatch(reason) else Reason.TRAINER_FAILED


SpokenReason = Annotated[Reason, AfterValidator(_reason_for_status)]
"""A reason that comes out of a trainer's container, where a user's program may write, too.

What no status can hold is read as TrainerFailed: the API server would refuse the whole status.
"""


class WireModel(BaseModel):
    """Base of everything that leaves a process.

    Names are camelCase outside; fields that only a newer peer knows are ignored, and so that its
    words are read, those of status and heartbeat are an `OpenEnum`.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )
