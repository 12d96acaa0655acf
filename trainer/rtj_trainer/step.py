"""The training step: the model's own `train_step`, compiled once for all batches."""

from typing import Any

import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.errors import PermanentError, UserError
from rtj_trainer.preflight.graph import PipelineGraph
from rtj_trainer.preflight.randomness import RANDOM_OPERATIONS
from rtj_trainer.preflight.rules import PYTHON_OPERATIONS


def compile_step(model: Any, element_spec: Any) -> tuple[Any, Any]:
    """Build model, optimizer and metrics by tracing `model.train_step`.

    The signature is that of the dataset, unknown dimensions included, so that every process
    compiles the same graph whichever batch it sees first, the last short one included.

    Args:
        model: A compiled keras.Model.
        element_spec: Structure of what the model is trained on.

    Returns:
        The function to call with a batch, and its traced form.

    Raises:
        PermanentError: the model is not one that can be trained exactly.
        UserError: `train_step` raised.
    """
    _check_model(model)
    function = tf.function(
        model.train_step, input_signature=[element_spec], jit_compile=model.jit_compile or None
    )
    try:
        concrete = function.get_concrete_function()
    except Exception as error:
        raise UserError(
            Reason.TRAINER_FAILED,
            f"the model's training step cannot be traced with batches of {element_spec}: "
            f"{type(error).__name__}: {error}",
        ) from error
    _check_graph(concrete.graph.as_graph_def())
    return function, concrete


def _check_graph(definition: Any) -> None:
    operations = PipelineGraph(definition, stateful=None).operations()
    hidden = sorted(operations.intersection((*RANDOM_OPERATIONS, *PYTHON_OPERATIONS)))
    if hidden:
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE,
            f"the model's training step uses {', '.join(hidden)}, whose state cannot be saved, so "
            "training was not started: use keras.random.* with a SeedGenerator instead "
            "of tf.random.*, and TensorFlow operations instead of Python functions",
        )


def _check_model(model: Any) -> None:
    if getattr(model, "optimizer", None) is None:
        raise PermanentError(
            Reason.BUILDER_INVALID,
            f"modelFunction must return a compiled keras.Model, not {type(model).__name__} "
            "without an optimizer; call model.compile(optimizer=…, loss=…) first",
        )
    if model.run_eagerly:
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE,
            "the model is compiled with run_eagerly=True, whose random state cannot be saved; "
            "compile it without",
        )
