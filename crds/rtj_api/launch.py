"""What the operator hands a trainer: one JSON document in an environment variable.

The trainer needs nothing else from the cluster, so the same document runs it anywhere.
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from rtj_api.checkpoint import CheckpointPolicy
from rtj_api.dataset import DatasetCache
from rtj_api.fingerprint import FingerprintPolicy
from rtj_api.names import BUILDER_MOUNT_PATH, VOLUME_MOUNT_PATH
from rtj_api.restore import ForkRequest, RestoreRequest
from rtj_api.wire import WireModel


class BuilderConfig(WireModel):
    """Where the builder module is, and how to call it."""

    path: Path | None = Path(BUILDER_MOUNT_PATH)
    """Folder put first on `sys.path`; None for a module that the image ships."""
    module: str
    dataset_function: str
    dataset_params: dict[str, Any]
    model_function: str
    model_params: dict[str, Any]
    callbacks_function: str | None = None
    """None if the job has no callbacks."""
    callbacks_params: dict[str, Any] = Field(default_factory=dict)
    validation_function: str | None = None
    """None if the job is not evaluated."""
    validation_params: dict[str, Any] = Field(default_factory=dict)
    batch_function: str | None = None
    """None if batches of the cache are trained on as they are."""
    batch_params: dict[str, Any] = Field(default_factory=dict)
    train_function: str | None = None
    """None if the trainer takes the steps itself."""
    train_params: dict[str, Any] = Field(default_factory=dict)


class LeaseConfig(WireModel):
    """The Lease that this attempt renews; absent outside a cluster."""

    namespace: str
    name: str
    interval_seconds: float = Field(5.0, gt=0)


class TrainerConfig(WireModel):
    """Everything that one attempt needs to know."""

    job_name: str
    job_uid: str
    attempt: int = Field(ge=1)
    volume: Path = Path(VOLUME_MOUNT_PATH)
    """Root of the mounted claim; the job keeps to `<volume>/<job uid>/`."""
    builder: BuilderConfig
    seed: int
    epochs: int | None
    total_steps: int | None
    checkpoint: CheckpointPolicy
    cache: DatasetCache | None = None
    """None if the dataset function runs in every epoch."""
    fingerprint_policy: FingerprintPolicy = FingerprintPolicy()
    expected_step: int = Field(0, ge=0)
    """Step of the last commit in the job's status: an older restore must be reported."""
    restore: RestoreRequest | None = None
    """A request to go back; it may have been answered by an earlier attempt."""
    fork_from: ForkRequest | None = None
    """Where the job's first commit comes from, if it is a fork."""
    lease: LeaseConfig | None = None

    def to_json(self) -> str:
        """Return the document for the environment variable."""
        return self.model_dump_json(by_alias=True)
