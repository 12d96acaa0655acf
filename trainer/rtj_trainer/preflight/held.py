"""State that a dataset holds in this process: its shuffles' generators, its caches' memories.

Every dataset that is made of such a dataset holds the same. Where two that must not know of each
other do, as the one that the checks read and the one of the training, each moves what the other
goes on from.
"""

from rtj_trainer.preflight import reshuffling
from rtj_trainer.preflight.graph import PipelineGraph, resource_handles


def held(graph: PipelineGraph) -> frozenset[bytes]:
    """Return the handles of the state that passes over a dataset change."""
    nodes = {node.name: node for node in graph.definition.node}
    return frozenset(
        handle
        for node in nodes.values()
        if reshuffling.moves(node) or node.op == "CacheDatasetV2"
        for handle in resource_handles(node, nodes)
    )
