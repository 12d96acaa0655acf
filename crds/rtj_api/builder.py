"""`spec.builder`: where the user's Python module is, and which of its functions are called how."""

from typing import Annotated, Any

from pydantic import Field

from rtj_api.object_name import ObjectName
from rtj_api.wire import WireModel

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

_ANY_JSON = (
    "any JSON, at most 96 KiB in all of spec.builder. kubectl drops a null and turns 1.0 into 1. "
    "Default: none."
)
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
