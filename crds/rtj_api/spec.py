"""`spec` of a ResumableTrainingJob: what a user may ask for.

The descriptions are what `kubectl explain` prints, so each gives its unit and default. Bounds and
defaults are in the schema; rules over several fields are in `rtj_api.rules`. After a change here
run `make generate`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from rtj_api.dataset import Dataset
from rtj_api.failure import FailurePolicy
from rtj_api.fingerprint import FingerprintPolicy
from rtj_api.free_json import POD_TEMPLATE, RESOURCES
from rtj_api.restore import ForkFrom, Restore
from rtj_api.wire import WireModel

# A DNS-1123 subdomain, the rule for names of ConfigMaps and claims.
ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
PythonName = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
]
ModuleName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$",
    ),
]


_ANY_JSON = "any JSON. kubectl drops a null and turns 1.0 into 1. Default: none."
"""How the description of parameters ends: what is in them, and what arrives."""


class ConfigMapSource(WireModel):
    """A ConfigMap whose keys are the files of the builder."""

    name: ObjectName = Field(description="Name of the ConfigMap, in the job's namespace.")


class ClaimSource(WireModel):
    """A folder on a PersistentVolumeClaim that holds the builder."""

    name: ObjectName = Field(
        description="Name of the PersistentVolumeClaim, in the job's namespace."
    )
    path: str = Field(
        "",
        max_length=1024,
        pattern=r"^([^/].*)?$",
        description="Folder in the claim, without a leading slash. Default: the claim's root.",
    )


class Builder(WireModel):
    """Where the Python module is that builds the dataset and the model, and how to call it.

    With neither configMap nor claim, the module must be in the trainer image.
    """

    config_map: ConfigMapSource | None = Field(
        None,
        description=(
            "Mount the builder from this ConfigMap; each key is a file. Default: the module is in "
            "the image."
        ),
    )
    claim: ClaimSource | None = Field(
        None,
        description=(
            "Mount the builder, read-only, from a folder of this claim. Default: the module is in "
            "the image."
        ),
    )
    module: ModuleName = Field(
        "builder",
        description="Dotted name of the Python module. Default: builder, that is builder.py.",
    )
    dataset_function: PythonName = Field(
        "build_dataset",
        description=(
            "Function that returns a tf.data.Dataset with one pass (epoch) over the data. The same "
            "parameters must give the same dataset. Default: build_dataset."
        ),
    )
    dataset_params: dict[str, Any] = Field(
        default_factory=dict,
        max_length=64,
        description=f"Keyword arguments of datasetFunction, {_ANY_JSON}",
    )
    batch_function: PythonName | None = Field(
        None,
        description=(
            "Function from a batch of cached examples and a seed to what the model is trained on, "
            "for what must differ from epoch to epoch. The seed is for tf.random.stateless_*: "
            "shape [2], another in every batch. Only with spec.dataset.cache. Default: the batch "
            "as it is."
        ),
    )
    batch_params: dict[str, Any] = Field(
        default_factory=dict,
        max_length=64,
        description=f"Further keyword arguments of batchFunction, {_ANY_JSON}",
    )
    model_function: PythonName = Field(
        "build_model",
        description="Function that returns a compiled keras.Model. Default: build_model.",
    )
    model_params: dict[str, Any] = Field(
        default_factory=dict,
        max_length=64,
        description=f"Keyword arguments of modelFunction, {_ANY_JSON}",
    )
    callbacks_function: PythonName | None = Field(
        None,
        description=(
            "Function that returns a list of Keras callbacks; its first argument is the model. "
            "Their own state is in each commit; one whose state cannot be saved is refused. "
            "Default: no callbacks."
        ),
    )
    callbacks_params: dict[str, Any] = Field(
        default_factory=dict,
        max_length=64,
        description=f"Further keyword arguments of callbacksFunction, {_ANY_JSON}",
    )
    validation_function: PythonName | None = Field(
        None,
        description=(
            "Function that returns a tf.data.Dataset to evaluate the model on after each epoch. "
            "The results, named val_…, go to the log and to callbacks. An evaluation must end "
            "within hangPolicy.trainingTimeoutSeconds. Default: no validation."
        ),
    )
    validation_params: dict[str, Any] = Field(
        default_factory=dict,
        max_length=64,
        description=f"Keyword arguments of validationFunction, {_ANY_JSON}",
    )
    train_function: PythonName | None = Field(
        None,
        description=(
            "Function that trains by itself; its first argument is the session, whose steps() "
            "gives it the batches of datasetFunction. It makes its own models, so modelFunction, "
            "callbacksFunction and validationFunction do not go with it. Default: the trainer "
            "trains the model of modelFunction."
        ),
    )
    train_params: dict[str, Any] = Field(
        default_factory=dict,
        max_length=64,
        description=f"Further keyword arguments of trainFunction, {_ANY_JSON}",
    )


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
            "Of every this many steps keep one commit for good, beside the newest: the first at or "
            "after each multiple. Only going back past them deletes them, so the claim must have "
            "room. Default: none."
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
