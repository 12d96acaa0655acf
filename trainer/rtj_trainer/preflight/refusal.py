"""How a pipeline is refused."""

from typing import NoReturn

from rtj_api.names import Reason

from rtj_trainer.errors import PermanentError


def refuse(reasons: list[str]) -> NoReturn:
    """Raise the refusal.

    Raises:
        PermanentError: `PipelineNotResumable`.
    """
    raise PermanentError(
        Reason.PIPELINE_NOT_RESUMABLE,
        "the dataset cannot be resumed exactly, so training was not started: " + "; ".join(reasons),
    )
