"""The builder's dataset function as a pipeline of blocks of records, checked like any other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.cache import elements
from rtj_trainer.data import IndexedContext, Tagged
from rtj_trainer.errors import PermanentError
from rtj_trainer.pipeline import PipelineFactory

BLOCK = 16
"""Examples that are taken from the pipeline at once: one by one takes Python longer."""

_ONE_TO_ONE = {"_MapDataset", "_ParallelMapDataset", "_ScanDataset"}
_SOME_OF_THEM = {
    "CacheDataset",
    "_AssertCardinalityDataset",
    "_FilterDataset",
    "_IgnoreErrorsDataset",
    "_OptionsDataset",
    "_PrefetchDataset",
    "_RepeatDataset",
    "_ShardDataset",
    "_ShuffleDataset",
    "_SkipDataset",
    "_TakeDataset",
    "_TakeWhileDataset",
    "_UniqueDataset",
}
"""Operations that give elements of their input as they are."""


class ExamplesFactory(PipelineFactory):
    """Builds one epoch of blocks of serialized examples."""

    element_spec: Any = None
    """Of one example, once a dataset was built."""
    built: Any = None
    """The dataset that was built last."""
    sampled = False
    """Whether it reads a source whose contents are known of some examples only."""

    def __init__(self, build: Callable[[], Any], seed: int, store: Path | None = None) -> None:
        super().__init__(build, seed, 1, None, store)

    def dataset(self, context: IndexedContext) -> Any:
        """Build the dataset.

        Raises:
            StopError: the builder is wrong, or failed, or its elements cannot be cached.
        """
        dataset = super().dataset(context)
        # One epoch is read once, from its beginning: an indexed source is like any other here.
        context.sources.clear()
        self.sampled = context.sampled
        if isinstance(dataset.element_spec, Tagged):
            dataset = dataset.map(_untagged)
        _check(dataset)
        elements.check(dataset.element_spec)
        self.element_spec = dataset.element_spec
        records = dataset.map(_record, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        self.built = records.batch(BLOCK)
        return self.built


def _untagged(tagged: Tagged) -> Any:
    return tagged.data


def _record(*example: Any) -> Any:
    return elements.serialize(example)


def _check(dataset: Any) -> None:
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise PermanentError(
            Reason.BUILDER_INVALID,
            "spec.dataset.cache: datasetFunction returns a dataset that never ends; leave out "
            "repeat(), or say how many examples an epoch has with take()",
        )
    if _gives_batches(dataset):
        raise PermanentError(
            Reason.BUILDER_INVALID,
            "spec.dataset.cache: datasetFunction returns batches, but single examples are cached; "
            "leave out batch(), since spec.dataset.cache.batchSize makes batches of them, or make "
            "an example of several elements by window() and flat_map()",
        )


def _gives_batches(dataset: Any) -> bool:
    """Return whether a dataset gives what batch() made, or as many rows as that had.

    A function after batch() may have made one example of each: then some part of it is shorter.
    """
    made = dataset
    while type(made).__name__ in _ONE_TO_ONE | _SOME_OF_THEM:
        made = made._input_dataset
    return "Batch" in type(made).__name__ and _lengths(dataset) == _lengths(made)


def _lengths(dataset: Any) -> set[int | str | None]:
    """Return the lengths of the parts of an element, None for those that are not known before."""
    shapes = (getattr(spec, "shape", None) for spec in tf.nest.flatten(dataset.element_spec))
    return {shape[0] if shape is not None and shape.rank else "no length" for shape in shapes}
