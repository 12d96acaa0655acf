"""The model's own `train_step` and `test_step`, each compiled once for all batches."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.errors import PermanentError, UserError
from rtj_trainer.touched import hidden_operations


def compile_step(model: Any, element_spec: Any) -> tuple[Any, Any]:
    """Build model, optimizer and metrics by tracing `model.train_step`.

    The signature is that of the dataset, unknown dimensions included, so that every process
    compiles the same graph whichever batch it sees first, the last short one included.

    Args:
        model: A compiled keras.Model.
        element_spec: Structure of what the model is trained on.

    Returns:
        The function to call with a batch, and its traced form. The function raises
        PermanentError if an operation has no deterministic kernel on this device, which TensorFlow
        says only when it runs; no result of such a step is kept.

    Raises:
        PermanentError: the model is not one that can be trained exactly.
        UserError: `train_step` raised.
    """
    _check_model(model)
    return _compile(model, model.train_step, element_spec, "training step")


def compile_test(model: Any, element_spec: Any) -> tuple[Any, Any]:
    """Trace `model.test_step` in the same way, after `compile_step`.

    Raises:
        PermanentError: it uses state that cannot be given back after an evaluation.
        UserError: `test_step` raised.
    """
    return _compile(model, model.test_step, element_spec, "test step")


def _compile(model: Any, step: Any, element_spec: Any, name: str) -> tuple[Any, Any]:
    function = tf.function(
        step, input_signature=[element_spec], jit_compile=model.jit_compile or None
    )
    try:
        concrete = function.get_concrete_function()
    except Exception as error:
        raise UserError(
            Reason.TRAINER_FAILED,
            f"the model's {name} cannot be traced with batches of {element_spec}: "
            f"{type(error).__name__}: {error}",
        ) from error
    if hidden := hidden_operations(concrete):
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE,
            f"the model's {name} uses {', '.join(hidden)}, whose state cannot be saved, so "
            "training was not started: use keras.random.* with a SeedGenerator instead "
            "of tf.random.*, a tf.Variable instead of a table, queue or iterator, and TensorFlow "
            "operations instead of Python functions",
        )
    return _refusing(function, name), concrete


def _refusing(function: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    """Return the function, with TensorFlow's refusal to be deterministic as a PermanentError."""

    def call(batch: Any) -> Any:
        try:
            return function(batch)
        except tf.errors.UnimplementedError as error:
            lines = [line.strip() for line in error.message.splitlines()]
            own = [line for line in lines if not line.startswith('File "')]  # no trace
            said = [line for line in own if "determin" in line.lower()]
            if not said:
                raise
            raise PermanentError(
                Reason.PIPELINE_NOT_RESUMABLE,
                f"the model's {name} cannot be computed deterministically on this device, so a "
                f"killed job would end with other weights: {said[-1].rstrip('.')}; use another "
                "operation instead, or train without a GPU",
            ) from error

    return call


def _check_model(model: Any) -> None:
    if getattr(model, "optimizer", None) is None:
        raise PermanentError(
            Reason.BUILDER_INVALID,
            f"modelFunction must return a compiled keras.Model, not {type(model).__name__} "
            "without an optimizer; call model.compile(optimizer=…, loss=…) first",
        )
    if tf.config.functions_run_eagerly():
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE,
            "the builder calls tf.config.run_functions_eagerly(True), so the training step would "
            "not be the one that was checked; leave that out",
        )
    if model.run_eagerly:
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE,
            "the model is compiled with run_eagerly=True, whose random state cannot be saved; "
            "compile it without",
        )
