"""Finds state that has moved, when a pass over the data ends, by how far it was read ahead.

`shuffle().repeat().prefetch(8).take(100)` drops what is prefetched when the 100 are over. How much
that is, is a matter of timing, and so is how often the shuffle began anew. Its generator goes on
from there in the next epoch, as does the kernel of `tf.random.*`; so two runs differ that nobody
killed. It is the same with one shuffle that two inputs of a zip() repeat: which of them begins its
next order first is a matter of timing. So it is with one that the function of a parallel
interleave() reads: calls of it run at once.

Where the builder wrote what reads ahead, the pipeline is refused. Where only tf.data's own
optimisations would read ahead, `rtj_trainer.preflight.options.as_written` switches them off.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from rtj_trainer.preflight import caches, randomness, reshuffling
from rtj_trainer.preflight.graph import (
    MISTAKEN_LENGTH,
    FoundNode,
    PipelineGraph,
    resource_handles,
)
from rtj_trainer.preflight.proven import PROVEN, PROVEN_BY_REPLAY

_AHEAD = {
    "LegacyParallelInterleaveDatasetV2",
    "MapAndBatchDataset",
    "ParallelBatchDataset",
    "ParallelInterleaveDatasetV4",
    "ParallelMapDatasetV2",
    "ParseExampleDatasetV2",
    "PrefetchDataset",
}
"""Operations that read their input before they are asked for more."""

_BEGINS_ONCE = (reshuffling.HOLDING - {"RepeatDataset"}) | {
    "ConcatenateDataset",
    "DirectedInterleaveDataset",
    "ExperimentalGroupByReducerDataset",
    "LegacyParallelInterleaveDatasetV2",
    "ParseExampleDatasetV2",
}
"""Operations that make an iterator of their first input with their own, and no other later.

Any other may: repeat() does, and so does a cache() that was not filled.
"""

_BESIDE = {"DirectedInterleaveDataset", "ZipDataset"}
"""Operations with several inputs that are all begun at once."""

_MISTAKEN = MISTAKEN_LENGTH | {"DirectedInterleaveDataset"}
"""Operations of which TensorFlow may tell another length than they have.

Of a mixture it tells no finite one, but may take it for endless where one of its inputs is.
"""

_ENDLESS = 2**62
"""No dataset of that length is read to its end."""


@dataclass(frozen=True)
class Overrun:
    """State that moves by how far it is read."""

    node: Any
    """What has the state."""
    cut: str
    """The operation that ends before its input does, or that reads the state at two places.

    The same as `ahead` where the function of a parallel operation reads it.
    """
    ahead: str | None
    """The operation that reads ahead; None if tf.data's optimisations alone would add one."""
    twice: bool
    """Whether the state is read at two places."""


@dataclass(frozen=True)
class _Below:
    """What lies between a place in a pipeline and its end."""

    again: bool
    """Whether there is another pass over what ends here."""
    cut: str | None = None
    """The operation that ends early; None where there is none, or no other pass."""
    ahead: str | None = None
    """The operation before the cut that reads ahead."""
    anew: bool = False
    """Whether an operation before the cut makes iterators of what is above it."""
    anew_ahead: str | None = None
    """The operation that reads ahead of that one."""

    def begun_anew(self) -> "_Below":
        return replace(self, anew=True, anew_ahead=self.ahead) if self.cut else self


def overruns(graph: PipelineGraph, once: bool) -> list[Overrun]:
    """Return the state that moves by how far it is read.

    Args:
        graph: Of a dataset.
        once: Whether there is a single pass over the dataset after it is built.
    """
    if not randomness.draws(graph) and not reshuffling.places(graph):
        return []
    return [*_Walk(graph).found(again=not once), *_WalkOfShared(graph).found(again=True)]


class _Walk:
    """Goes from the end of a pipeline to its sources, and finds state that is cut off."""

    twice = False

    def __init__(self, graph: PipelineGraph) -> None:
        self._definition = graph.definition
        self._nodes = {node.name: node for node in graph.definition.node}
        self._drawing = randomness.drawing_nodes(graph)
        self._filled = not caches.shared(graph)
        self._lengths: dict[str, float | None] = {}

    def found(self, again: bool) -> Iterator[Overrun]:
        ends = (node for node in self._nodes.values() if node.op == "_Retval")
        waiting = [(node, _Below(again)) for node in ends]
        while waiting:
            node, below = waiting.pop()
            below = self._with(node, below)
            if below.cut and below.anew and self._has_generator(node):
                yield Overrun(node, below.cut, below.anew_ahead, self.twice)
            if below.cut and self._draws(node):
                yield Overrun(node, below.cut, below.ahead, self.twice)
            waiting += self._inputs(node, below)

    def _with(self, node: Any, below: _Below) -> _Below:
        """Return what lies below the first input of a node, but for what the node cuts off."""
        if below.cut and not below.ahead and _reads_ahead(node):
            below = replace(below, ahead=node.op)
        if "Dataset" not in node.op or node.op in _BEGINS_ONCE:
            return below
        if node.op.startswith("CacheDataset") and not below.cut and self._filled:
            return replace(below, again=False)
        return replace(below, again=True).begun_anew()

    def _inputs(self, node: Any, below: _Below) -> Iterator[tuple[Any, _Below]]:
        for position, name in enumerate(node.input):
            source = self._nodes.get(_name(name))
            if source is None:  # It only comes before this one in time.
                continue
            above = below
            called = position > 0 and node.op not in (*_BESIDE, "ConcatenateDataset")
            if (below.again or called) and not below.ahead and self._is_cut(node, position):
                # Who reads its input ahead calls its function ahead, several times at once.
                ahead = node.op if called and _reads_ahead(node) else None
                above = _Below(again=True, cut=node.op, ahead=ahead)
            if position and node.op not in _BESIDE:
                above = above.begun_anew()
            yield source, above

    def _is_cut(self, node: Any, position: int) -> bool:
        """Return whether a node may be done with an input before that is at its end."""
        if node.op == "TakeDataset":
            count = FoundNode(node, list(self._nodes.values())).constant_input(1)
            length = self._length(node.input[0])
            return count != -1 and (count is None or length is None or length > count)
        if node.op == "ZipDataset":
            return not self._is_shortest(list(node.input), position)
        if node.op == "DirectedInterleaveDataset" and position:
            stops = node.attr["stop_on_empty_dataset"].b
            return stops or self._length(node.input[0]) != math.inf
        if position:  # A function is given it, or it is the second of a concatenate().
            return bool(node.op != "ConcatenateDataset")
        return node.op in ("TakeWhileDataset", "DirectedInterleaveDataset")

    def _is_shortest(self, inputs: list[str], position: int) -> bool:
        """Return whether no other input can end before one of them does."""
        length = self._length(inputs.pop(position))
        longest = math.inf if length is None else length
        others = [self._length(name) for name in inputs]
        return all(other is not None and other >= longest for other in others)

    def _length(self, reference: str) -> float | None:
        """Return how many elements a node's dataset has; None if that is not known."""
        name = _name(reference)
        if name not in self._lengths:
            unknown = self._sources(name) & _MISTAKEN
            self._lengths[name] = None if unknown else _length(self._definition, name)
        return self._lengths[name]

    def _sources(self, name: str) -> set[str]:
        """Return the operations that a node is made of, its own included."""
        found: dict[str, str] = {}
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name in self._nodes and name not in found:
                found[name] = self._nodes[name].op
                waiting += map(_name, self._nodes[name].input)
        return set(found.values())

    def _has_generator(self, node: Any) -> bool:
        return reshuffling.moves(node)

    def _draws(self, node: Any) -> bool:
        return node.name in self._drawing


class _WalkOfShared(_Walk):
    """Finds generators that are drawn from at two places, in an order that is a matter of timing.

    Random operations are not among them: each node of a graph has a kernel of its own.
    """

    twice = True

    def __init__(self, graph: PipelineGraph) -> None:
        super().__init__(graph)
        moving = (node for node in self._nodes.values() if reshuffling.moves(node))
        # A dataset that is used twice is twice in the graph, with the same generator.
        self._uses = Counter(self._generator(node) for node in moving)

    def _is_cut(self, node: Any, position: int) -> bool:
        return node.op in _BESIDE

    def _has_generator(self, node: Any) -> bool:
        return reshuffling.moves(node) and self._uses[self._generator(node)] > 1

    def _draws(self, node: Any) -> bool:
        return False

    def _generator(self, node: Any) -> bytes:
        return b"".join(resource_handles(node, self._nodes))


def _reads_ahead(node: Any) -> bool:
    known = PROVEN | PROVEN_BY_REPLAY
    return node.op in _AHEAD or ("Dataset" in node.op and node.op not in known)


def _name(reference: str) -> str:
    """Return the name of the node that an input refers to."""
    return reference.split(":")[0]


def _length(definition: Any, name: str) -> float | None:
    """Return how many elements a node's dataset has; None if that is not known."""
    part = graph_pb2.GraphDef()
    part.CopyFrom(definition)
    for node in part.node:
        if node.op == "_Retval":
            node.input[:] = [name]
    try:
        dataset = tf.raw_ops.DatasetFromGraph(graph_def=part.SerializeToString())
    except tf.errors.OpError:
        return None
    length = int(tf.raw_ops.DatasetCardinality(input_dataset=dataset))
    if length == tf.data.UNKNOWN_CARDINALITY:
        return None
    # The numbers of an enumerate() end with int64.
    return math.inf if length == tf.data.INFINITE_CARDINALITY or length > _ENDLESS else length
