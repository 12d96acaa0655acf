"""`spec` of a ResumableTrainingJob: what a user may ask for.

The descriptions are what `kubectl explain` prints, so each gives its unit and default. Bounds and
defaults are in the schema; rules over several fields are in `rtj_api.rules`. After a change here
run `make generate`.
"""

from typing import Any, Literal

from pydantic import Field

from rtj_api.builder import Builder
from rtj_api.checkpoint import CheckpointPolicy
from rtj_api.dataset import Dataset
from rtj_api.failure import FailurePolicy
from rtj_api.fingerprint import FingerprintPolicy
from rtj_api.free_json import POD_TEMPLATE, RESOURCES
from rtj_api.restore import ForkFrom, Restore
from rtj_api.run_policy import HangPolicy, RunPolicy
from rtj_api.wire import WireModel


class Trainer(WireModel):
    """The pod that trains."""

    image: str = Field(
        min_length=1,
        max_length=1024,
        pattern=r"^[!-~]+$",
        description=(
            "Trainer image with the rtj_trainer package in it, such as "
            "registry.example.com/rtj-trainer:1.0."
        ),
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When to pull the image. Default: IfNotPresent."
    )
    resources: dict[str, Any] = Field(
        default_factory=dict,
        json_schema_extra=RESOURCES,
        description=(
            "Requests and limits of the trainer container, as in a pod, "
            "such as limits: {nvidia.com/gpu: 1}. Default: none."
        ),
    )
    grace_period_seconds: int = Field(
        60,
        ge=1,
        le=3600,
        description=(
            "Seconds that a stopped trainer has to finish its step and commit. Default: 60."
        ),
    )
    pod_template: dict[str, Any] = Field(
        default_factory=dict,
        json_schema_extra=POD_TEMPLATE,
        description=(
            "A PodTemplateSpec (metadata and spec) merged under the pod that the operator makes: "
            "nodeSelector, tolerations, volumes, priorityClassName, and so on. A container named "
            "trainer is merged with the trainer's; of its securityContext runAsUser, runAsGroup "
            "and readOnlyRootFilesystem count. Others run without privileges unless they ask for "
            "some. Default: none."
        ),
    )


class JobSpec(WireModel):
    """A training job that ends with the same weights however often it is killed."""

    builder: Builder = Field(
        description=(
            "The Python module that builds the dataset and the model. It cannot change later. "
            "{} means the module builder in the image."
        )
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description=(
            "Seed of every random generator, set right before the builder is called. It cannot "
            "change later. Default: 0."
        ),
    )
    epochs: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Passes over the dataset. Exactly one of epochs and totalSteps is required.",
    )
    total_steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000_000,
        description=(
            "Optimizer steps; the dataset is repeated as needed. Exactly one of epochs and "
            "totalSteps is required."
        ),
    )
    dataset: Dataset = Field(
        default_factory=Dataset,
        description="What happens to the examples of datasetFunction. Default: {}.",
    )
    checkpoint: CheckpointPolicy = Field(
        description="Where and how often the training state is committed."
    )
    trainer: Trainer = Field(description="The pod that trains.")
    run_policy: RunPolicy = Field(
        default_factory=RunPolicy,
        description="How long and how often the job may run. Default: {}.",
    )
    failure_policy: FailurePolicy = Field(
        default_factory=FailurePolicy,
        description=("What each end of an attempt costs, and when the job gives up. Default: {}."),
    )
    hang_policy: HangPolicy = Field(
        default_factory=HangPolicy,
        description=(
            "When a trainer that is alive but stands still is asked for its stacks and replaced. "
            "Such restarts count against backoffLimit. Default: {}."
        ),
    )
    fingerprint_policy: FingerprintPolicy = Field(
        default_factory=FingerprintPolicy,
        description=(
            "What may change between the commit that a trainer goes on from and its start. A "
            "job that failed by it can be forked with another policy. Default: {}."
        ),
    )
    restore: Restore | None = Field(
        None,
        description=(
            "Go back to an older commit of this job, once. A job that is finished cannot go back: "
            "fork it. Default: the newest commit."
        ),
    )
    fork_from: ForkFrom | None = Field(
        None,
        description=(
            "Start from a commit of another job with the same builder and seed, which is only "
            "read. It cannot be set, changed or taken out later. Default: step 0."
        ),
    )
