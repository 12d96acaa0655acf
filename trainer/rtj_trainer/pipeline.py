"""From the builder's functions to a model, a data stream and a fingerprint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import tensorflow as tf
from rtj_api.dataset import DatasetCache
from rtj_api.launch import BuilderConfig, TrainerConfig
from rtj_api.names import Reason

from rtj_trainer import builder
from rtj_trainer.batches import training_data
from rtj_trainer.commits.layout import INDICES
from rtj_trainer.data import IndexedContext, batches, indexed_context
from rtj_trainer.data.source import Source
from rtj_trainer.errors import PermanentError
from rtj_trainer.position import Position
from rtj_trainer.position.iterator import IteratorPosition
from rtj_trainer.position.streams import IndexPosition, ReplayPosition
from rtj_trainer.preflight.graph import PipelineGraph, read_graph
from rtj_trainer.preflight.identity import pipeline_sha256
from rtj_trainer.preflight.lines import recorded_lines
from rtj_trainer.preflight.named import file_names
from rtj_trainer.preflight.options import exact
from rtj_trainer.preflight.probe import probe
from rtj_trainer.preflight.proven import unproven
from rtj_trainer.preflight.refusal import refuse
from rtj_trainer.preflight.reshuffling import places
from rtj_trainer.preflight.strategy import Strategy, choose_strategy
from rtj_trainer.seeding import seed_everything

_BUILDS_DIFFER = (
    "two calls of datasetFunction with the same parameters and seed gave different pipelines; "
    "make it depend on nothing else, such as the time or unseeded generators"
)

_NOT_BUILT_ANEW = (
    "datasetFunction returned the same object twice, so each of its shuffles would go on from "
    "where the checks before training left it; build the dataset within the function"
)


@dataclass(frozen=True)
class Pipeline:
    """The chosen stream of batches, and what identifies it."""

    position: Position
    strategy: Strategy
    element_spec: Any
    """Structure of what the model is trained on."""
    identity: dict[str, Any]
    unproven: list[str]
    """Dataset operations that no test has proven (`rtj_trainer.preflight.doubt`), with the lines of
    the builder that made them."""
    file_names: list[str]
    """Data files that its graph names."""


class PipelineFactory:
    """Calls the function that builds the dataset, each time in the same random state.

    Args:
        build: Returns one epoch.
        seed: The job's.
        epochs: The job's; None for as many as total_steps need.
        total_steps: The job's; None for all of its epochs.
        store: Folder for what is found out about data files; None for memory only.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        seed: int,
        epochs: int | None,
        total_steps: int | None,
        store: Path | None = None,
    ) -> None:
        self._seed = seed
        self._store = store
        self._epochs = epochs
        self._total_steps = total_steps
        self._build = build

    def dataset(self, context: IndexedContext) -> Any:
        """Build the dataset.

        Raises:
            StopError: the builder is wrong, or failed.
        """
        seed_everything(self._seed)
        with indexed_context(context):
            dataset = self._build()
        return _expect(dataset, tf.data.Dataset, "datasetFunction", "a tf.data.Dataset")

    def pipeline(self, first_start: bool, scratch: Path) -> Pipeline:
        """Build the dataset, choose a strategy, and check what can be checked before training.

        Args:
            first_start: Whether this is a start from step 0, which has everything checked.
            scratch: A folder that may be created and is removed again.

        Raises:
            StopError: the builder is wrong, or its pipeline cannot be resumed exactly.
        """
        context = IndexedContext(self._seed, store=self._store)
        with recorded_lines() as lines:
            dataset = self.dataset(context)
        graph = read_graph(dataset, lines)
        strategy = choose_strategy(dataset, graph, context, self._epochs)
        identity = _identity(dataset, graph, strategy, context)
        if first_start:
            probe(exact(dataset), strategy.name, scratch)
        if first_start or strategy.name == "index":
            # The probe moved the shuffles' state; also, two builds must be alike.
            context = IndexedContext(self._seed, store=self._store)
            first, dataset = dataset, self.dataset(context)
            if dataset is first:
                refuse([_NOT_BUILT_ANEW])
            again = _identity(dataset, read_graph(dataset), strategy, context)
            if again != identity:
                refuse([_BUILDS_DIFFER])
        return Pipeline(
            self._position(dataset, strategy, places(graph), context),
            strategy,
            training_data(dataset.element_spec),
            identity,
            [
                " ".join([name, *sorted(set(graph.lines.of(name)))])
                for name in unproven(graph.operations(), strategy.name)
            ],
            file_names(graph),
        )

    def _position(
        self, dataset: Any, strategy: Strategy, generators: int, context: IndexedContext
    ) -> Position:
        if strategy.name == "index":
            [source] = context.sources
            build = self._from_step(source.batches_per_epoch)
            return IndexPosition(build, source, self._seed)
        epochs = self._epochs
        if strategy.name == "replay":
            return ReplayPosition(exact(dataset), epochs)
        known = strategy.batches_per_epoch is not None
        return IteratorPosition(exact(dataset), None if known else epochs, generators)

    def _from_step(self, batches_per_epoch: int) -> Callable[[int], Any]:
        stop = self._total_steps
        if self._epochs is not None:
            stop = min(stop or 2**62, self._epochs * batches_per_epoch)

        def build(step: int) -> Any:
            context = IndexedContext(self._seed, start=step, stop=stop, store=self._store)
            return exact(self.dataset(context))

        return build


class Factory(PipelineFactory):
    """Calls both of a job's builder functions.

    Args:
        config: Of the attempt.
        module: The builder.
        cached: The examples that the dataset function gave once (`rtj_trainer.cache`); None if it
            is to be called.
    """

    def __init__(
        self, config: TrainerConfig, module: ModuleType, cached: Source | None = None
    ) -> None:
        spec = config.builder
        build = dataset_function(spec, module)
        if cached is not None and config.cache is not None:
            build = _batches_of(cached, config.cache, spec, module)
        super().__init__(
            build,
            config.seed,
            config.epochs,
            config.total_steps,
            config.volume / INDICES,
        )
        self._build_model = builder.bind(module, "model", spec.model_function, spec.model_params)

    def model(self) -> Any:
        """Build the model.

        Raises:
            StopError: the builder is wrong, or failed.
        """
        seed_everything(self._seed)
        return _expect(self._build_model(), keras.Model, "modelFunction", "a compiled keras.Model")


def dataset_function(spec: BuilderConfig, module: ModuleType) -> Callable[[], Any]:
    """Return the builder's dataset function with its parameters.

    Raises:
        PermanentError: `FunctionNotFound`.
    """
    return builder.bind(module, "dataset", spec.dataset_function, spec.dataset_params)


def _batches_of(
    cached: Source, policy: DatasetCache, spec: BuilderConfig, module: ModuleType
) -> Callable[[], Any]:
    augment = None
    if spec.batch_function is not None:
        augment = builder.bind(module, "batch", spec.batch_function, spec.batch_params)

    def build() -> Any:
        examples = batches(
            cached,
            policy.batch_size,
            augment=augment,
            shuffle=policy.shuffle,
            drop_remainder=policy.drop_remainder,
        )
        return examples.prefetch(tf.data.AUTOTUNE)

    return build


def _identity(
    dataset: Any, graph: PipelineGraph, strategy: Strategy, context: IndexedContext
) -> dict[str, Any]:
    # Commits of builders without such data have no such key.
    contents = {"contents": context.contents} if context.contents else {}
    return {
        **contents,
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
