"""Caches in memory that more than one iterator reads: their saved iterators are restored wrongly.

The first iterator of a cache fills it, and the others read what is there. Restored, they do not
find it as they left it, so that an epoch gives other examples or ends too early, without an error.
"""

from typing import Any

from rtj_trainer.preflight.graph import PipelineGraph, resource_handles

_INPUTS = ("ZipDataset", "ConcatenateDataset", "DirectedInterleaveDataset")
"""Operations that read each input once at a time; others give the later ones to a function."""


def shared(graph: PipelineGraph) -> bool:
    """Return whether a cache may have more than one iterator at a time."""
    caches = [node for node in graph.definition.node if node.op == "CacheDatasetV2"]
    # A dataset that is used twice is twice in the graph, with the same memory.
    nodes = {node.name: node for node in graph.definition.node}
    memories = {b"".join(resource_handles(node, nodes)) for node in caches}
    return len(memories) < len(caches) or any(_is_argument(graph, node) for node in caches)


def _is_argument(graph: PipelineGraph, node: Any) -> bool:
    """Return whether a function gets the dataset, or one that is made of it."""
    return any(
        (position > 0 and user.op not in _INPUTS) or _is_argument(graph, user)
        for user in graph.definition.node
        for position, name in enumerate(user.input)
        if name.split(":")[0] == node.name
    )
