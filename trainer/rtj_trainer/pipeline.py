"""From the builder's functions to a model, a data stream and a fingerprint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import tensorflow as tf
from rtj_api.launch import TrainerConfig
from rtj_api.names import Reason

from rtj_trainer import builder
from rtj_trainer.batches import training_data
from rtj_trainer.data import IndexedContext, indexed_context
from rtj_trainer.errors import PermanentError
from rtj_trainer.position import Position
from rtj_trainer.position.iterator import IteratorPosition
from rtj_trainer.position.streams import IndexPosition, ReplayPosition
from rtj_trainer.preflight.graph import PipelineGraph, read_graph
from rtj_trainer.preflight.identity import pipeline_sha256
from rtj_trainer.preflight.probe import probe
from rtj_trainer.preflight.reshuffling import places
from rtj_trainer.preflight.strategy import Strategy, choose_strategy, refuse
from rtj_trainer.seeding import seed_everything

_BUILDS_DIFFER = (
    "two calls of datasetFunction with the same parameters and seed gave different pipelines; "
    "make it depend on nothing else, such as the time or unseeded generators"
)


@dataclass(frozen=True)
class Pipeline:
    """The chosen stream of batches, and what identifies it."""

    position: Position
    strategy: Strategy
    element_spec: Any
    """Structure of what the model is trained on."""
    identity: dict[str, Any]


class Factory:
    """Calls the builder's functions, each time in the same random state."""

    def __init__(self, config: TrainerConfig, module: ModuleType) -> None:
        spec = config.builder
        self._config = config
        self._dataset_function = builder.get_function(
            module, spec.dataset_function, "spec.builder.datasetFunction"
        )
        self._model_function = builder.get_function(
            module, spec.model_function, "spec.builder.modelFunction"
        )

    def dataset(self, context: IndexedContext) -> Any:
        """Build the dataset.

        Raises:
            StopError: the builder is wrong, or failed.
        """
        seed_everything(self._config.seed)
        with indexed_context(context):
            dataset = builder.call(
                self._dataset_function,
                self._config.builder.dataset_params,
                "spec.builder.datasetParams",
            )
        return _expect(dataset, tf.data.Dataset, "datasetFunction", "a tf.data.Dataset")

    def model(self) -> Any:
        """Build the model.

        Raises:
            StopError: the builder is wrong, or failed.
        """
        seed_everything(self._config.seed)
        model = builder.call(
            self._model_function, self._config.builder.model_params, "spec.builder.modelParams"
        )
        return _expect(model, keras.Model, "modelFunction", "a compiled keras.Model")

    def pipeline(self, first_start: bool, scratch: Path) -> Pipeline:
        """Build the dataset, choose a strategy, and check what can be checked before training.

        Args:
            first_start: Whether this is a start from step 0, which has everything checked.
            scratch: A folder that may be created and is removed again.

        Raises:
            StopError: the builder is wrong, or its pipeline cannot be resumed exactly.
        """
        context = IndexedContext(self._config.seed)
        dataset = self.dataset(context)
        graph = read_graph(dataset)
        strategy = choose_strategy(dataset, graph, context, self._config.epochs)
        identity = _identity(dataset, graph, strategy)
        if first_start:
            probe(dataset, strategy.name, scratch)
        if first_start or strategy.name == "index":
            # The probe moved the shuffles' state; also, two builds must be alike.
            dataset = self.dataset(IndexedContext(self._config.seed))
            again = _identity(dataset, read_graph(dataset), strategy)
            if again != identity:
                refuse([_BUILDS_DIFFER])
        return Pipeline(
            self._position(dataset, strategy, places(graph)),
            strategy,
            training_data(dataset.element_spec),
            identity,
        )

    def _position(self, dataset: Any, strategy: Strategy, generators: int) -> Position:
        if strategy.name == "index":
            batches = strategy.batches_per_epoch
            if batches is None:
                raise AssertionError("an indexed source has a length")
            return IndexPosition(self._from_step(batches), batches)
        epochs = self._config.epochs
        if strategy.name == "replay":
            return ReplayPosition(_deterministic(dataset), epochs)
        known = strategy.batches_per_epoch is not None
        return IteratorPosition(_deterministic(dataset), None if known else epochs, generators)

    def _from_step(self, batches_per_epoch: int) -> Callable[[int], Any]:
        stop = self._config.total_steps
        if self._config.epochs is not None:
            stop = min(stop or 2**62, self._config.epochs * batches_per_epoch)

        def build(step: int) -> Any:
            context = IndexedContext(self._config.seed, start=step, stop=stop)
            return _deterministic(self.dataset(context))

        return build


def _deterministic(dataset: Any) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    return dataset.with_options(options)


def _identity(dataset: Any, graph: PipelineGraph, strategy: Strategy) -> dict[str, Any]:
    return {
        "strategy": strategy.name,
        "pipeline": pipeline_sha256(graph.definition),
        "shuffleSeeds": str(graph.shuffle_seeds()),
        "elementSpec": str(dataset.element_spec),
    }


def _expect(value: Any, kind: type, function: str, wanted: str) -> Any:
    if isinstance(value, kind):
        return value
    raise PermanentError(
        Reason.BUILDER_INVALID,
        f"spec.builder.{function} must return {wanted}, not {type(value).__name__}",
    )
