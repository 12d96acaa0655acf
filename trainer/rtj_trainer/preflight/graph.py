"""Sees a tf.data pipeline as TensorFlow does: as a graph of operations, without running it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, types_pb2
from tensorflow.python.framework import op_def_registry

from rtj_trainer.preflight.lines import BuilderLines
from rtj_trainer.preflight.readers import is_declared

_IGNORE, _FAIL = 1, 2  # values of tf.data's ExternalStatePolicy

MISTAKEN_LENGTH = {"LoadDataset"}
"""Operations whose length TensorFlow takes from a file, whatever `reader_func` makes of it."""


@dataclass(frozen=True)
class PipelineGraph:
    """The nodes of a pipeline and of all functions that it calls."""

    definition: Any
    stateful: str | None
    """TensorFlow's own complaint about the first operation whose state it cannot save."""
    lines: BuilderLines = field(default_factory=BuilderLines)
    """Where the builder made each operation, as far as that is known."""

    def scopes(self) -> Iterator[list[Any]]:
        """Yield the nodes of the pipeline itself, then those of each function."""
        yield list(self.definition.node)
        for function in self.definition.library.function:
            yield list(function.node_def)

    def find(self, *operations: str) -> Iterator["FoundNode"]:
        """Yield every node with one of these operations."""
        for scope in self.scopes():
            for node in scope:
                if node.op in operations:
                    yield FoundNode(node, scope)

    def operations(self) -> set[str]:
        """Return the names of the operations that occur, without reads of `rtj_trainer.data`."""
        nodes = (node for scope in self.scopes() for node in scope)
        return {node.op for node in nodes if not is_declared(node)}

    def shuffle_seeds(self) -> list[tuple[Any, ...]]:
        """Return both seeds of each shuffle, None for one that is computed, in graph order."""
        return [
            (node.constant_input(2), node.constant_input(3))
            for node in self.find(
                "ShuffleDatasetV2", "ShuffleDatasetV3", "ShuffleAndRepeatDatasetV2"
            )
        ]


@dataclass(frozen=True)
class FoundNode:
    """A node and the graph or function that it is in."""

    node: Any
    scope: list[Any]

    def constant_input(self, index: int) -> Any:
        """Return the value of an input if it is a constant of one element, else None."""
        if index >= len(self.node.input):
            return None
        name = self.node.input[index].split(":")[0]
        for source in self.scope:
            if source.name == name and source.op == "Const":
                value = tf.make_ndarray(source.attr["value"].tensor)
                return value.item() if np.size(value) == 1 else None
        return None


def read_graph(dataset: Any, lines: BuilderLines | None = None) -> PipelineGraph:
    """Return the graph of a dataset, and where its operations were made if that was recorded."""
    stateful = None
    try:
        content = _serialize(dataset, _FAIL)
    except tf.errors.OpError as error:
        stateful = complaint(error)
        try:
            content = _serialize(dataset, _IGNORE)
        except tf.errors.OpError:
            content = b""  # there is no graph at all; the complaint says why
    definition = graph_pb2.GraphDef.FromString(content)
    return PipelineGraph(definition, stateful, lines or BuilderLines())


def is_stateful(name: str) -> bool:
    """Return whether an operation has state, or is none that TensorFlow knows."""
    definition = op_def_registry.get(name)
    return definition is None or bool(definition.is_stateful)


def resource_handles(node: Any, nodes: Mapping[str, Any]) -> list[bytes]:
    """Return what names the state in this process that a node is given: generators, memories.

    Args:
        node: Of a pipeline, not of a function in it.
        nodes: All of that pipeline, by name.
    """
    sources = (nodes.get(name.split(":")[0]) for name in node.input)
    tensors = (found.attr["value"].tensor for found in sources if found and found.op == "Const")
    return [
        tensor.SerializeToString(deterministic=True)
        for tensor in tensors
        if tensor.dtype == types_pb2.DT_RESOURCE
    ]


def complaint(error: tf.errors.OpError) -> str:
    """Return the sentence in TensorFlow's message that names the operation."""
    line = re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", error.message.splitlines()[0])
    return line.removeprefix("Failed to serialize the input pipeline graph: ").rstrip(". ")


def _serialize(dataset: Any, policy: int) -> bytes:
    variant = dataset._variant_tensor
    graph = tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=policy)
    content: bytes = graph.numpy()
    return content
