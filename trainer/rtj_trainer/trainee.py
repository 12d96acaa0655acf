"""Builds all that a job is but its data: model, steps, validation, callbacks, and their state.

The order is part of it: each process must draw the same from the generators that were seeded.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from rtj_api.launch import TrainerConfig

from rtj_trainer import builder, seeding
from rtj_trainer.callbacks import CallbackRunner
from rtj_trainer.epochs import Epochs
from rtj_trainer.pipeline import Factory, Pipeline
from rtj_trainer.progress import Progress
from rtj_trainer.state import TrainingState, variables_of
from rtj_trainer.step import compile_step, compile_test
from rtj_trainer.touched import graph_sha256
from rtj_trainer.validation import Evaluation, validation_data


@dataclass(frozen=True)
class Trainee:
    """A model that is ready for its state to be restored, and then to be trained."""

    state: TrainingState
    epochs: Epochs
    identity: dict[str, Any]
    """What must be the same in the next attempt."""


def build_trainee(
    config: TrainerConfig,
    module: ModuleType,
    factory: Factory,
    pipeline: Pipeline,
    progress: Progress,
) -> Trainee:
    """Call the builder's functions for all but the dataset.

    Raises:
        StopError: the builder is wrong, or failed, or what it builds cannot be resumed exactly.
    """
    spec = config.builder
    model = factory.model()
    step_function, traced = compile_step(model, pipeline.element_spec)
    functions = [traced]
    with seeding.undisturbed():
        data = validation_data(_validation(config, module), config.seed)
    if data:
        test_function, traced_test = compile_test(model, data.element_spec)
        functions.append(traced_test)
    runner = CallbackRunner(_callbacks(config, module, model), model, _params(config, pipeline))
    state = TrainingState(variables_of(model), functions, runner)
    evaluation = None
    if data:
        evaluation = Evaluation(model, test_function, data, state.undisturbed)
    known = pipeline.strategy.batches_per_epoch
    epochs = Epochs(progress, known, model, step_function, state, runner, evaluation)
    identity = {
        "model": {"function": spec.model_function, **spec.model_params},
        "callbacks": {"function": spec.callbacks_function, **spec.callbacks_params},
        "validation": {"function": spec.validation_function, **spec.validation_params},
        "validationPipeline": data.identity if data else None,
        "callbackList": runner.describe(),
        "variables": state.describe(),
        "step": [graph_sha256(function) for function in functions],
    }
    return Trainee(state, epochs, identity)


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


def _params(config: TrainerConfig, pipeline: Pipeline) -> dict[str, Any]:
    return {
        "verbose": 0,
        "epochs": config.epochs,
        "steps": pipeline.strategy.batches_per_epoch,
    }
