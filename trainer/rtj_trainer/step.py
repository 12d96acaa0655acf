"""The model's own `train_step` and `test_step`, each compiled once for all batches."""

import logging
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer import seeding, startup
from rtj_trainer.errors import PermanentError, StopError, UserError
from rtj_trainer.touched import hidden_operations, refuse_hidden

log = logging.getLogger(__name__)


def compile_step(model: Any, element_spec: Any) -> Any:
    """Build model, optimizer and metrics by tracing `model.train_step`.

    The signature is that of the dataset, unknown dimensions included, so that every process
    compiles the same graph whichever batch it sees first, the last short one included.

    Args:
        model: A compiled keras.Model.
        element_spec: Structure of what the model is trained on.

    Returns:
        The traced function, to call with a batch.

    Raises:
        PermanentError: the model is not one that can be trained exactly.
        PreemptedError: asked to stop.
        UserError: `train_step` raised.
    """
    _check_model(model)
    _build_ahead(model, element_spec)
    startup.TIMES.ended("build")
    compiled = _compile(model, model.train_step, element_spec, "training step")
    startup.TIMES.ended("trace")
    return compiled


def retrace_step(model: Any, element_spec: Any) -> Any | None:
    """Trace `model.train_step` for batches of another shape, after `compile_step`.

    Returns:
        The traced function; None if the model does not take such batches.
    """
    try:
        with seeding.undisturbed():
            return _compile(model, model.train_step, element_spec, "training step")
    except UserError as error:
        log.warning("%s", error)
        return None


def compile_test(model: Any, element_spec: Any) -> Any:
    """Trace `model.test_step` in the same way, after `compile_step`.

    Raises:
        PermanentError: it uses state that cannot be given back after an evaluation.
        UserError: `test_step` raised.
    """
    return _compile(model, model.test_step, element_spec, "test step")


def _compile(model: Any, step: Any, element_spec: Any, name: str) -> Any:
    # As `fit` traces it, also without the conversion of Python's control flow.
    function = tf.function(
        step,
        input_signature=[element_spec],
        autograph=False,
        jit_compile=model.jit_compile or None,
    )
    try:
        concrete = function.get_concrete_function()
    except StopError:  # Asked to stop while it was traced.
        raise
    except Exception as error:
        raise UserError(
            Reason.TRAINER_FAILED,
            f"the model's {name} cannot be traced with batches of {element_spec}: "
            f"{type(error).__name__}: {error}",
        ) from error
    if hidden := hidden_operations(concrete):
        refuse_hidden(f"the model's {name}", hidden)
    # Not `function`: with each batch it would look for its trace again, half of a small step.
    return concrete


def refusing(function: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    """Return a traced function, with TensorFlow's refusal to be deterministic as a PermanentError.

    TensorFlow says only when an operation runs that it has no deterministic kernel for it on this
    device. No result of such a step is kept.

    Args:
        function: From `compile_step` or `compile_test`.
        name: What it is, for people.
    """

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


def _build_ahead(model: Any, element_spec: Any) -> None:
    """Make the variables of optimizer and metrics, as Keras itself does before it distributes.

    A function in whose tracing variables are made is traced again without them: half of the time.
    That is also the answer for all that Keras cannot build ahead, and for a `train_step` of the
    user's, which may make others.
    """
    own = type(model).train_step is not keras.Model.train_step
    if own or not model.built or not hasattr(model, "_symbolic_build"):
        return
    try:
        model._symbolic_build(data_batch=element_spec)
    except StopError:
        raise
    except Exception as error:
        log.debug("Keras cannot build it ahead: %s", error)


def _check_model(model: Any) -> None:
    if getattr(model, "optimizer", None) is None:
        raise PermanentError(
            Reason.BUILDER_INVALID,
            "spec.builder.modelFunction must return a compiled keras.Model, not "
            f"{type(model).__name__} without an optimizer; call model.compile(optimizer=…, loss=…) "
            "first",
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
