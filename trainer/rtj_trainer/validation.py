"""Evaluates the model after each epoch, so that training does not notice.

`test_step` writes into metrics and may draw random numbers, so every variable and generator that
training can see gets its value back. Then nothing of an evaluation is left but its results, and one
that was interrupted is simply run again, from the state that the epoch ended with.

For that, the dataset must be the same each time. One that shuffles, or draws random numbers, has
another order with each pass, counted in a generator that begins anew in each process. So it is
built anew, from the seed, for each evaluation.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.batches import training_data
from rtj_trainer.data import IndexedContext, indexed_context
from rtj_trainer.errors import PermanentError
from rtj_trainer.preflight import randomness, rules
from rtj_trainer.preflight.graph import PipelineGraph, read_graph
from rtj_trainer.preflight.held import held
from rtj_trainer.preflight.identity import pipeline_sha256
from rtj_trainer.preflight.lines import recorded_lines
from rtj_trainer.preflight.named import file_names
from rtj_trainer.preflight.options import exact
from rtj_trainer.preflight.overruns import overruns
from rtj_trainer.reader import Reader
from rtj_trainer.results import results
from rtj_trainer.seeding import seed_everything

_FIELD = "spec.builder.validationFunction"

_NOT_BUILT_ANEW = (
    "a shuffle() or cache() that a call before had made is in its result, so each evaluation would "
    "go on from where the one before left it; build all of the dataset within the function"
)

_SHARED = (
    "a shuffle() or cache() of the training's dataset is in it, so each would move what the other "
    "goes on from; build all of the dataset within the function"
)


@dataclass(frozen=True)
class ValidationData:
    """The dataset that a model is evaluated on."""

    element_spec: Any
    """Structure of what the model is evaluated on."""
    identity: dict[str, Any]
    """What must be the same in the next attempt."""
    contents: dict[str, str]
    """What `rtj_trainer.data` reads of it, which must be the same too."""
    file_names: list[str]
    """Data files that its graph names."""
    read: Callable[[], Any]
    """Returns the dataset, which has the same batches each time."""


def validation_data(
    function: Callable[[], Any] | None,
    seed: int,
    store: Path | None = None,
    held_by_training: frozenset[bytes] = frozenset(),
) -> ValidationData | None:
    """Build the validation dataset, and look whether it is the same each time.

    The caller must keep the generators, since the builder is seeded.

    Args:
        function: Builds it; None if the job has none.
        seed: The job's.
        store: Folder for what is found out about data files; None for memory only.
        held_by_training: What the training's dataset has in this process.

    Returns:
        None if the job has none.

    Raises:
        StopError: the builder is wrong, or failed, or its dataset is another each time.
    """
    if function is None:
        return None

    def context() -> IndexedContext:
        return IndexedContext(seed, store=store)

    def build(within: IndexedContext) -> Any:
        seed_everything(seed)
        with indexed_context(within):
            dataset = function()
        if not isinstance(dataset, tf.data.Dataset):
            raise PermanentError(
                Reason.BUILDER_INVALID,
                f"{_FIELD} must return a tf.data.Dataset, not {type(dataset).__name__}",
            )
        return exact(dataset)

    first, second = context(), context()
    with recorded_lines() as lines:
        dataset = build(first)
    graph = read_graph(dataset, lines)
    _refuse_problems(dataset, graph)
    identity = _identity(dataset, graph)
    again = build(second)
    graph_again = read_graph(again)
    # A function that kept the dataset of its first call reads nothing in the second.
    other_data = second.contents and second.contents != first.contents
    if other_data or _identity(again, graph_again) != identity:
        _refuse(["two calls with the same parameters and seed gave different pipelines"])
    if (held(graph) | held(graph_again)) & held_by_training:
        _refuse([_SHARED])
    moves = _moves(graph)
    # One without a shuffle may be kept: then it is read as it is each time.
    if moves and held(graph_again) & held(graph):
        _refuse([_NOT_BUILT_ANEW])
    # Only where it is read: the identity of jobs that went on without it stays.
    as_written = bool(overruns(graph, once=True))
    return ValidationData(
        training_data(dataset.element_spec),
        identity,
        first.contents,
        file_names(graph),
        (lambda: exact(build(context()), as_written)) if moves else (lambda: dataset),
    )


def _refuse_problems(dataset: Any, graph: PipelineGraph) -> None:
    problems = [*rules.problems(graph), *rules.read_beyond_a_cut(graph, once=True)]
    reasons = [problem.sentence(graph.lines) for problem in problems]
    cardinality = int(dataset.cardinality())
    if cardinality == 0:
        reasons.append("it is empty; check spec.builder.validationParams")
    if cardinality == tf.data.INFINITE_CARDINALITY:
        reasons.append("it never ends, as after a repeat() without a count; drop the repeat()")
    if reasons:
        _refuse(reasons)


def _refuse(reasons: list[str]) -> None:
    raise PermanentError(
        Reason.PIPELINE_NOT_RESUMABLE,
        f"the dataset of {_FIELD} cannot be the same after each epoch, so training was not "
        f"started: {'; '.join(reasons)}",
    )


def _identity(dataset: Any, graph: PipelineGraph) -> dict[str, Any]:
    return {
        "pipeline": pipeline_sha256(graph.definition),
        "shuffleSeeds": str(graph.shuffle_seeds()),
        "elementSpec": str(dataset.element_spec),
    }


def _moves(graph: PipelineGraph) -> bool:
    """Return whether a second pass over the dataset may differ from the first."""
    names = graph.operations()
    return randomness.draws(graph) or any("Shuffle" in name or "Random" in name for name in names)


@dataclass(frozen=True)
class Evaluation:
    """Runs the model's own `test_step` over the validation dataset."""

    model: Any
    test_function: Callable[[Any], Any]
    """Compiled, from `rtj_trainer.step.compile_test`."""
    data: ValidationData
    undisturbed: Callable[[], AbstractContextManager[None]]
    """Gives all that training can see its value back."""

    def run(self, interrupted: Callable[[], bool]) -> dict[str, Any] | None:
        """Return the results, by the names that `model.fit` gives them; None if interrupted.

        Args:
            interrupted: Asked between two batches.
        """
        with self.undisturbed():
            self.model.reset_metrics()
            logs = None
            for element in Reader(self.data.read()):
                if interrupted():
                    return None
                logs = self.test_function(training_data(element))
            return {f"val_{name}": value for name, value in results(self.model, logs).items()}
