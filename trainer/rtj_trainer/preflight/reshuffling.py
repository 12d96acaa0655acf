"""Shuffles with another order in each epoch: whether a saved iterator can hold their place.

Such a dataset draws its seeds from a generator of its own, whose place is saved only with a live
iterator of it. `rtj_trainer.position.iterator` saves where all of them live; here are the pipelines
in which they all do but at the end of an epoch. In others, as with concatenate(), where one input
lives while the other does not, what came before the position must be replayed.
"""

from collections.abc import Iterator
from typing import Any

from rtj_trainer.preflight.graph import PipelineGraph

DRAWING = {
    "ShuffleDatasetV2": "reshuffle_each_iteration",
    "ShuffleDatasetV3": "reshuffle_each_iteration",
    "ShuffleAndRepeatDatasetV2": "reshuffle_each_iteration",
    "RandomDataset": "rerandomize_each_iteration",
    "RandomDatasetV2": "rerandomize_each_iteration",
}
"""Operation -> its attribute that says whether the seeds change with each epoch."""

HOLDING = {
    "AssertCardinalityDataset",
    "BatchDatasetV2",
    "DenseToSparseBatchDataset",
    "FilterDataset",
    "FlatMapDataset",
    "GroupByWindowDataset",
    "IgnoreErrorsDataset",
    "InterleaveDataset",
    "MapAndBatchDataset",
    "MapDataset",
    "ModelDataset",
    "OptionsDataset",
    "PaddedBatchDatasetV2",
    "ParallelBatchDataset",
    "ParallelInterleaveDatasetV4",
    "ParallelMapDatasetV2",
    "PrefetchDataset",
    "RebatchDatasetV2",
    "RepeatDataset",
    "ScanDataset",
    "ShardDataset",
    "ShuffleDatasetV3",
    "SkipDataset",
    "TakeDataset",
    "TakeWhileDataset",
    "UnbatchDataset",
    "UniqueDataset",
    "WindowDataset",
    "ZipDataset",
}
"""Operations that hold an iterator of their input from their first element to their last."""


def places(graph: PipelineGraph) -> int:
    """Return how many generators a saved iterator must speak for; 0 if none ever moves."""
    return len(list(_drawing(graph))) if _moves(graph) else 0


def unsaved(graph: PipelineGraph) -> str | None:
    """Return why no saved iterator of this pipeline has all of its generators' places, or None."""
    if not _moves(graph):
        return None
    for node in _drawing(graph):
        operation = _lets_go(graph, node)
        if operation:
            return f"of a shuffle before {operation.removesuffix('V2')}"
    return None


def moves(node: Any) -> bool:
    """Return whether a node has a generator that goes on from one epoch to the next."""
    name = DRAWING.get(node.op)
    # Asking a node for an attribute that it lacks would give it one.
    return name is not None and name in node.attr and bool(node.attr[name].b)


def _drawing(graph: PipelineGraph) -> Iterator[Any]:
    return (node for node in graph.definition.node if node.op in DRAWING)


def _moves(graph: PipelineGraph) -> bool:
    """Return whether any generator goes on from one epoch to the next."""
    return any(moves(node) for node in graph.definition.node)


def _lets_go(graph: PipelineGraph, node: Any) -> str | None:
    """Return the first operation after a node that may let go of it early, or None."""
    while True:
        users = [
            (user, position)
            for user in graph.definition.node
            for position, name in enumerate(user.input)
            if name.split(":")[0] == node.name
        ]
        if len(users) != 1:
            return "more than one use of it"
        user, position = users[0]
        if user.op == "_Retval":
            return None
        if user.op not in HOLDING or (position > 0 and user.op != "ZipDataset"):
            return str(user.op)
        node = user
