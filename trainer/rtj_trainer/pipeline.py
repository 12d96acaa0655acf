"""From the builder's functions to a model, a data stream and a fingerprint."""

import logging
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
from rtj_trainer.commits.manifest import Manifest
from rtj_trainer.cutting import Cutting, EpochLengths, SameLength
from rtj_trainer.data import IndexedContext, IndexedSource, batches, indexed_context
from rtj_trainer.data.source import Source
from rtj_trainer.errors import PermanentError, UserError
from rtj_trainer.position import Position
from rtj_trainer.position.iterator import IteratorPosition
from rtj_trainer.position.streams import IndexPosition, ReplayPosition
from rtj_trainer.preflight.graph import PipelineGraph, read_graph
from rtj_trainer.preflight.held import held
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

log = logging.getLogger(__name__)

_BUILDS_DIFFER = (
    "two calls of datasetFunction with the same parameters and seed gave different pipelines; "
    "make it depend on nothing else, such as the time or unseeded generators"
)

_NOT_BUILT_ANEW = (
    "datasetFunction gave what a call before had made, the same object twice or a shuffle() or "
    "cache() that both results are made of, so it would go on from where the checks before "
    "training left it; build all of the dataset within the function"
)
_ENDLESS = 2**62
"""More steps than anybody takes."""


@dataclass(frozen=True)
class AsBefore:
    """What a pipeline would be if only its batch size were still that of the commit."""

    element_spec: Any
    """Structure of what the model was trained on."""
    identity: dict[str, Any]


@dataclass(frozen=True)
class Stream:
    """Batches, and how they are counted."""

    position: Position
    element_spec: Any
    """Structure of what the model is trained on."""
    lengths: EpochLengths | None
    """Of its epochs; None while they are not known, or if one never ends."""
    cutting: Cutting | None = None
    """Which batches they are; None if the position is no number of a batch."""
    as_before: AsBefore | None = None
    """None if the batch size is that of the commit, or if nothing else can be compared then."""


@dataclass(frozen=True)
class Pipeline:
    """The chosen stream of batches, and what identifies it."""

    stream: Stream
    strategy: Strategy
    identity: dict[str, Any]
    unproven: list[str]
    """Dataset operations that no test has proven (`rtj_trainer.preflight.doubt`), with the lines of
    the builder that made them."""
    file_names: list[str]
    """Data files that its graph names."""
    held: frozenset[bytes]
    """Handles of the state that its dataset has in this process."""


class PipelineFactory:
    """Calls the function that builds the dataset, each time in the same random state.

    Args:
        build: Returns one epoch.
        seed: The job's.
        epochs: The job's; None for as many as total_steps need.
        total_steps: The job's; None for all of its epochs. With neither there is no end.
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

    def pipeline(
        self, first_start: bool, scratch: Path, commit: Manifest | None = None
    ) -> Pipeline:
        """Build the dataset, choose a strategy, and check what can be checked before training.

        Args:
            first_start: Whether this is a start from step 0, which has everything checked.
            scratch: A folder that may be created and is removed again.
            commit: What an attempt goes on from; None without one.

        Raises:
            StopError: the builder is wrong, or its pipeline cannot be resumed exactly.
        """
        context = self._context()
        with recorded_lines() as lines:
            dataset = self.dataset(context)
        graph = read_graph(dataset, lines)
        strategy = choose_strategy(dataset, graph, context, self._epochs)
        identity = _identity(dataset, graph, strategy, context)
        if first_start:
            probe(exact(dataset, strategy.as_written), strategy.name, scratch)
        if first_start or strategy.name == "index":
            # The probe moved the shuffles' state; also, two builds must be alike.
            dataset, graph, context = self._built_again(dataset, graph, strategy, identity)
        if strategy.name == "index":
            stream = self._numbered(dataset, context.sources[0], strategy, commit)
        else:
            stream = self._whole(dataset, strategy, places(graph))
        return Pipeline(
            stream,
            strategy,
            identity,
            [
                " ".join([name, *sorted(set(graph.lines.of(name)))])
                for name in unproven(graph.operations(), strategy.name)
            ],
            file_names(graph),
            held(graph),
        )

    def _built_again(
        self, first: Any, before: PipelineGraph, strategy: Strategy, identity: dict[str, Any]
    ) -> tuple[Any, PipelineGraph, IndexedContext]:
        context = self._context()
        dataset = self.dataset(context)
        graph = read_graph(dataset, before.lines)
        if dataset is first or held(graph) & held(before):
            refuse([_NOT_BUILT_ANEW])
        if _identity(dataset, graph, strategy, context) != identity:
            refuse([_BUILDS_DIFFER])
        return dataset, graph, context

    def _whole(self, dataset: Any, strategy: Strategy, generators: int) -> Stream:
        """Return a stream that is read on and on, or from the beginning."""
        length = strategy.batches_per_epoch
        fixed = exact(dataset, strategy.as_written)
        if strategy.name == "replay":
            position: Position = ReplayPosition(fixed, self._epochs)
        else:
            epochs = self._epochs if length is None else None
            position = IteratorPosition(fixed, epochs, generators)
        lengths = None if length is None else SameLength(length)
        return Stream(position, training_data(dataset.element_spec), lengths)

    def _numbered(
        self, dataset: Any, source: IndexedSource, strategy: Strategy, commit: Manifest | None
    ) -> Stream:
        """Return a stream that is built anew from the number of a batch on."""
        cutting = _going_on(source.cutting, commit)
        position = self._index_position(cutting, source.shuffle)
        element_spec = training_data(dataset.element_spec)
        if len(cutting.cuts) > 1:
            element_spec = self._element_spec(cutting)
        as_before = None
        saved = commit.cutting if commit else None
        if saved and saved.is_like(cutting) and saved.batch_size != cutting.batch_size:
            as_before = self._as_before(saved, strategy)
        return Stream(position, element_spec, cutting, cutting, as_before)

    def _index_position(self, cutting: Cutting, shuffle: bool) -> Position:
        stop = self._total_steps or _ENDLESS
        if self._epochs is not None:
            stop = min(stop, cutting.end(self._epochs))

        def build(step: int) -> Any:
            context = self._context(cutting)
            context.start, context.stop = step, stop
            return exact(self.dataset(context))

        return IndexPosition(build, IndexedSource(cutting, shuffle), self._seed)

    def _context(self, cutting: Cutting | None = None) -> IndexedContext:
        return IndexedContext(self._seed, cutting=cutting, store=self._store)

    def _element_spec(self, cutting: Cutting) -> Any:
        """Return the structure of batches after a change: one more of them may be shorter."""
        return training_data(self.dataset(self._context(cutting)).element_spec)

    def _as_before(self, saved: Cutting, strategy: Strategy) -> AsBefore | None:
        """Build what the builder makes now in batches of the size before.

        If it is what the commit was made with, then nothing but the batch size has changed. A
        builder that counts on the size that it asks for may raise.
        """
        even = Cutting.even(saved.size, saved.batch_size, saved.drop_remainder)
        context = self._context(even)
        try:
            dataset = self.dataset(context)
            identity = _identity(dataset, read_graph(dataset), strategy, context)
            return AsBefore(self._element_spec(saved), identity)
        except (PermanentError, UserError) as error:
            log.warning("not to be built in batches of %d: %s", saved.batch_size, error)
            return None


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
            build = batches_of(cached, config.cache, spec, module)
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


def batches_of(
    cached: Source, policy: DatasetCache, spec: BuilderConfig, module: ModuleType
) -> Callable[[], Any]:
    """Return what builds the dataset of a job whose examples are cached.

    Raises:
        PermanentError: `FunctionNotFound`.
    """
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


def _going_on(asked: Cutting, commit: Manifest | None) -> Cutting:
    """Return the batches of a job that goes on from a commit, with what is asked for now."""
    saved = commit.cutting if commit else None
    if commit is None or saved is None or not saved.is_like(asked):
        return asked  # What differs, the fingerprint refuses.
    if saved.batch_size == asked.batch_size:
        return saved
    changed = saved.changed(commit.step, asked.batch_size)
    cut = changed.cuts[-1]
    log.info(
        "from step %d on, after %d examples of epoch %d, batches of %d instead of %d",
        *(cut.step, cut.taken, cut.epoch, cut.batch_size, saved.batch_size),
    )
    return changed


def _identity(
    dataset: Any, graph: PipelineGraph, strategy: Strategy, context: IndexedContext
) -> dict[str, Any]:
    contents = {"contents": context.contents} if context.contents else {}
    shuffle = {"shuffle": context.sources[0].shuffle} if context.sources else {}
    return {
        # Commits of builders without such data have no such keys.
        **contents,
        **shuffle,
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
