"""`spec.fingerprintPolicy`: what may change between two attempts of a job."""

from enum import StrEnum

from pydantic import Field

from rtj_api.wire import WireModel


class OnChange(StrEnum):
    """What a trainer does about a change since the commit that it goes on from."""

    REFUSE = "Refuse"
    WARN = "Warn"
    IGNORE = "Ignore"


_WORDS = (
    "Refuse fails the job with FingerprintMismatch, Warn reports it in an Event and goes on, "
    "Ignore goes on."
)


class FingerprintPolicy(WireModel):
    """What a change since the last commit does to a job.

    All else is always refused: other parameters, the seed, the pipeline, and what the training step
    computes.
    """

    source: OnChange = Field(
        OnChange.REFUSE,
        description=(
            "When the text of the builder changed. What it builds must still be the same. "
            f"{_WORDS} Default: Refuse."
        ),
    )
    files: OnChange = Field(
        OnChange.REFUSE,
        description=(
            "When a file that datasetParams or validationParams name, or one below a folder that "
            "they name, was added or removed, or has another size or other bytes at its beginning, "
            "middle or end; another time of modification alone is warned of, unless this is "
            f"Ignore. {_WORDS} Default: Refuse."
        ),
    )
    versions: OnChange = Field(
        OnChange.WARN,
        description=(
            "When TensorFlow, Keras, the type of the machine, the sets of vector instructions of "
            "its CPU, the model of its GPUs, their libraries cuDNN and cuBLAS or an environment "
            "variable that chooses kernels changed, so that the last bits may differ. "
            f"{_WORDS} Default: Warn."
        ),
    )
    batch_size: OnChange = Field(
        OnChange.REFUSE,
        description=(
            "When a fork asks for another batch size than the commit that it goes on from, in a "
            "dataset of rtj_trainer.data or of spec.dataset.cache. It goes on at exactly the next "
            "example, with other batches from there on; nothing else of the dataset may differ. "
            f"Of other datasets it is always refused. {_WORDS} Default: Refuse."
        ),
    )
