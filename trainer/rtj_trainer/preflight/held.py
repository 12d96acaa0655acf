"""State that a dataset holds in this process: its shuffles' generators, its caches' memories.

Every dataset that is made of such a dataset holds the same. Where two that must not know of each
other do, as the one that the checks read and the one of the training, each moves what the other
goes on from.
"""

from collections.abc import Iterator

from tensorflow.core.framework import types_pb2

from rtj_trainer.preflight import reshuffling
from rtj_trainer.preflight.graph import PipelineGraph


def held(graph: PipelineGraph) -> frozenset[bytes]:
    """Return the handles of the state that passes over a dataset change."""
    return frozenset(_handles(graph))


def _handles(graph: PipelineGraph) -> Iterator[bytes]:
    nodes = {node.name: node for node in graph.definition.node}
    for node in nodes.values():
        if not (reshuffling.moves(node) or node.op == "CacheDatasetV2"):
            continue
        for name in node.input:
            source = nodes.get(name.split(":")[0])
            if source is None or source.op != "Const":
                continue
            tensor = source.attr["value"].tensor
            if tensor.dtype == types_pb2.DT_RESOURCE:
                yield tensor.SerializeToString(deterministic=True)
