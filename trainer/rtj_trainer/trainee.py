"""Builds all that a job is but its data: model, steps, validation, callbacks, and their state.

The order is part of it: each process must draw the same from the generators that were seeded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf
from rtj_api.checkpoint import KeepBest
from rtj_api.launch import TrainerConfig
from rtj_api.names import Reason

from rtj_trainer import builder, seeding
from rtj_trainer.callbacks import CallbackRunner
from rtj_trainer.captured import captured
from rtj_trainer.commits.layout import INDICES
from rtj_trainer.epochs import Epochs
from rtj_trainer.errors import PermanentError
from rtj_trainer.pipeline import Factory, Pipeline
from rtj_trainer.progress import Progress
from rtj_trainer.state import TrainingState, variables_of
from rtj_trainer.step import compile_step, compile_test, refusing, retrace_step
from rtj_trainer.touched import graph_sha256
from rtj_trainer.validation import Evaluation, validation_data
from rtj_trainer.watch import Watch, WatchedState


@dataclass(frozen=True)
class Trainee:
    """A model that is ready for its state to be restored, and then to be trained."""

    state: WatchedState
    epochs: Epochs
    identity: dict[str, Any]
    """What must be the same in the next attempt."""
    as_before: dict[str, Any]
    """What of it would be otherwise if only the batch size were still that of the commit."""
    file_names: list[str]
    """Data files that the pipeline of the validation names."""


def build_trainee(
    config: TrainerConfig,
    module: ModuleType,
    factory: Factory,
    pipeline: Pipeline,
    progress: Progress,
    watch: Watch,
) -> Trainee:
    """Call the builder's functions for all but the dataset.

    Args:
        config: Of the attempt.
        module: The builder.
        factory: Made the pipeline, and makes the model.
        pipeline: What it is trained on.
        progress: Counts its steps.
        watch: Sees the variables that are made while it trains.

    Raises:
        StopError: the builder is wrong, or failed, or what it builds cannot be resumed exactly.
    """
    spec = config.builder
    trainee = prepare_to_fit(
        factory.model(),
        pipeline,
        progress,
        seed=config.seed,
        validation=_validation(config, module),
        callbacks=lambda model: _callbacks(config, module, model),
        state_of=lambda model, functions, runner: WatchedState(
            variables_of(model), functions, runner, watch, progress
        ),
        best=config.checkpoint.keep_best,
        store=config.volume / INDICES,
    )
    identity = {
        "model": {"function": spec.model_function, **spec.model_params},
        "callbacks": {"function": spec.callbacks_function, **spec.callbacks_params},
        "validation": {"function": spec.validation_function, **spec.validation_params},
    }
    return replace(trainee, identity={**identity, **trainee.identity})


def prepare_to_fit(
    model: Any,
    pipeline: Pipeline,
    progress: Progress,
    *,
    seed: int,
    validation: Callable[[], Any] | None,
    callbacks: Callable[[Any], Any],
    state_of: Callable[[Any, list[Any], CallbackRunner], WatchedState],
    best: KeepBest | None,
    store: Path,
) -> Trainee:
    """Make ready a compiled model to be trained as `model.fit` does.

    Args:
        model: A compiled keras.Model.
        pipeline: What it is trained on.
        progress: Counts its steps.
        seed: The job's.
        validation: Builds the dataset that it is evaluated on; None for no evaluation.
        callbacks: Returns the callbacks; called with the built model.
        state_of: Returns the state of model, traced functions and callbacks.
        best: The result of an epoch that commits are kept for; None for none.
        store: Folder for what is found out about data files.

    Raises:
        StopError: something of it cannot be resumed exactly.
    """
    step_function = compile_step(model, pipeline.stream.element_spec)
    _check_results("training step", step_function)
    functions = [step_function]
    with seeding.undisturbed():
        data = validation_data(validation, seed, store, pipeline.held)
    if data:
        test_function = compile_test(model, data.element_spec)
        _check_results("test step", test_function)
        functions.append(test_function)
    if best:
        _check_metric(best, model, functions)
    known = pipeline.strategy.batches_per_epoch
    params = {"verbose": 0, "epochs": progress.epochs, "steps": known}
    runner = CallbackRunner(callbacks(model), model, params)
    state = state_of(model, functions, runner)
    as_before = _computed_before(model, pipeline, functions, state)
    evaluation = None
    if data:
        evaluation = Evaluation(
            model, refusing(test_function, "test step"), data, state.undisturbed
        )
    step = refusing(step_function, "training step")
    epochs = Epochs(progress, model, step, state, runner, evaluation)
    contents = {"validationContents": data.contents} if data and data.contents else {}
    identity = {
        **contents,
        "validationPipeline": data.identity if data else None,
        "callbackList": runner.describe(),
        "variables": state.describe(),
        **_computed(functions, state),
    }
    return Trainee(state, epochs, identity, as_before, data.file_names if data else [])


def _computed_before(
    model: Any, pipeline: Pipeline, functions: list[Any], state: TrainingState
) -> dict[str, Any]:
    """Return what would be computed if only the batch size were still that of the commit."""
    if not pipeline.stream.as_before:
        return {}
    before = retrace_step(model, pipeline.stream.as_before.element_spec)
    return _computed([before, *functions[1:]], state) if before else {}


def _computed(functions: list[Any], state: TrainingState) -> dict[str, Any]:
    names = state.names()
    found = [captured(function, names) for function in functions]
    return {
        "step": [graph_sha256(function) for function in functions],
        "captured": [read.sha256 for read in found],
        "constants": sorted({digest for read in found for digest in read.contents}),
    }


def _check_results(name: str, function: Any) -> None:
    """Refuse results that no commit can hold; callbacks are given them, after a restart too."""
    returned = function.structured_outputs
    if not isinstance(returned, dict):
        return  # As in `fit`, nobody is given it.
    for key, values in returned.items():
        for value in tf.nest.flatten(values):
            if not _is_number(value):
                raise PermanentError(
                    Reason.PIPELINE_NOT_RESUMABLE,
                    f"the model's {name} returns {key!r}, which is {_kind(value)}, and no commit "
                    "can hold that, so training was not started: return numbers only",
                )


def _is_number(value: Any) -> bool:
    if not isinstance(value, tf.Tensor):
        return value is None
    kind = value.dtype
    return bool(kind.is_floating or kind.is_integer or kind.is_bool)


def _kind(value: Any) -> str:
    is_tensor = isinstance(value, tf.Tensor)
    return f"of type {value.dtype.name}" if is_tensor else f"a {type(value).__name__}"


def _check_metric(best: KeepBest, model: Any, functions: list[Any]) -> None:
    """Refuse a metric that no epoch would have: nothing would ever be kept for it."""
    names: list[str] = []
    for prefix, function in zip(("", "val_"), functions, strict=False):
        returned = function.structured_outputs
        own = isinstance(returned, dict) and returned
        names += [f"{prefix}{name}" for name in (returned if own else model.metrics_names)]
    if best.metric not in names:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"spec.checkpoint.keepBest.metric: an epoch has no result {best.metric!r}, it has "
            f"{', '.join(names)}; create the job again with one of these",
        )


def _callbacks(config: TrainerConfig, module: ModuleType, model: Any) -> Any:
    spec = config.builder
    if spec.callbacks_function is None:
        return []
    function = builder.bind(module, "callbacks", spec.callbacks_function, spec.callbacks_params)
    return function(model)


def _validation(config: TrainerConfig, module: ModuleType) -> Any:
    spec = config.builder
    if spec.validation_function is None:
        return None
    return builder.bind(module, "validation", spec.validation_function, spec.validation_params)
