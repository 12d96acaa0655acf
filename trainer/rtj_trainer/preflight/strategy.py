"""Chooses how the position is kept, or refuses the pipeline."""

from dataclasses import dataclass
from typing import Any, NoReturn

from rtj_api.names import Reason

from rtj_trainer import batches
from rtj_trainer.data.indexing import IndexedContext, Tagged
from rtj_trainer.errors import PermanentError
from rtj_trainer.preflight import randomness, rules
from rtj_trainer.preflight.graph import MISTAKEN_LENGTH, PipelineGraph
from rtj_trainer.preflight.overruns import overruns
from rtj_trainer.preflight.refusal import refuse

_INFINITE = -1


@dataclass(frozen=True)
class Strategy:
    """How the position is kept, and why so."""

    name: str
    why: str
    batches_per_epoch: int | None
    """None while it is not known, or if one epoch never ends."""
    as_written: bool = False
    """Whether tf.data may not read ahead where the builder did not say so."""


def choose_strategy(
    dataset: Any, graph: PipelineGraph, context: IndexedContext, epochs: int | None
) -> Strategy:
    """Return the strategy for a dataset that was built in `context`.

    Raises:
        PermanentError: `PipelineNotResumable` with every reason found; `BuilderInvalid` for an
            empty dataset; `InvalidSpec` for an endless one where epochs are to be counted.
    """
    reasons = [problem.sentence(graph.lines) for problem in rules.problems(graph)]
    beyond = rules.read_beyond_a_cut(graph, once=epochs == 1)
    reasons += [problem.sentence(graph.lines) for problem in beyond]
    if dataset.options().deterministic is False:
        reasons.append(
            "its options have deterministic=False, so its order is chance; leave that out"
        )
    if reasons:
        refuse(reasons)
    if isinstance(dataset.element_spec, Tagged):
        batches.refuse_other_ids(dataset.element_spec.ids)
    cardinality = int(dataset.cardinality())
    if cardinality == 0:
        refuse_empty()
    if cardinality == _INFINITE and epochs is not None:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"spec.epochs is {epochs}, but the dataset never ends, as after a repeat() without a "
            "count; set spec.totalSteps instead, or drop the repeat()",
        )
    if context.sources:
        return _index(graph, context, cardinality)
    told = cardinality > 0 and not MISTAKEN_LENGTH & graph.operations()
    known = cardinality if told else None
    # As for several epochs in any case: a job of one may be made longer.
    as_written = bool(overruns(graph, once=False))
    why = rules.must_be_replayed(graph)
    if why:
        return Strategy("replay", why, known, as_written)
    return Strategy("iterator", "tf.data can save this pipeline's iterator", known, as_written)


def refuse_empty() -> NoReturn:
    """Raise the refusal of a dataset without elements.

    Raises:
        PermanentError: `BuilderInvalid`.
    """
    raise PermanentError(
        Reason.BUILDER_INVALID,
        "spec.builder.datasetFunction returned an empty dataset; check "
        "spec.builder.datasetParams, such as paths, filters, and a batch size above the number of "
        "examples with drop_remainder",
    )


def _index(graph: PipelineGraph, context: IndexedContext, cardinality: int) -> Strategy:
    if len(context.sources) != 1:
        times = len(context.sources)
        refuse([f"the builder calls indexed() {times} times, itself or by batches(); call it once"])
    if randomness.draws(graph):
        problem = rules.random_problem(graph, "after indexed(), so no batch could be made again")
        refuse([problem.sentence(graph.lines)])
    expected = context.sources[0].batches_per_epoch
    others = rules.not_one_to_one(graph)
    if others:
        what = "only map and prefetch may follow indexed() or batches(), which batch by themselves"
        hint = ", and choose examples by filtered()" if "FilterDataset" in others else ""
        refuse([f"{what}; drop {', '.join(others)}{hint}"])
    if cardinality != expected:
        refuse([f"indexed() makes {expected} batches and the dataset has {cardinality}; keep each"])
    return Strategy("index", "the builder makes its batches by number", expected)
