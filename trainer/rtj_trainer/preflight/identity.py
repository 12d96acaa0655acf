"""A digest of a pipeline that is the same in every process that builds it alike.

The serialized graph is not: it numbers functions by the order of their tracing. Neither is
TensorFlow's DatasetFingerprint: it includes the handle of an in-memory cache. So the graph is
hashed from its result back through its inputs, functions by their bodies, names left out. Captured
constants, shuffle seeds, file names and batch sizes are all in it; contents of files are not.
"""

import hashlib
from typing import Any

from tensorflow.core.framework import types_pb2

# Attributes that differ between equal graphs, or say nothing about the data.
# The token is the number of a Python function in its process: those of users are refused, and what
# ours read is compared by itself (`IndexedContext.contents`).
_IGNORED = {"metadata", "shared_name", "container", "config_proto", "executor_type", "token"}


def pipeline_sha256(definition: Any) -> str:
    """Return the digest of a dataset's GraphDef, in hex."""
    return _Hasher(definition).graph()


class _Hasher:
    def __init__(self, definition: Any) -> None:
        self._nodes = {node.name: node for node in definition.node}
        self._results = sorted(node.name for node in definition.node if node.op == "_Retval")
        self._functions = {found.signature.name: found for found in definition.library.function}
        self._done: dict[str, str] = {}

    def graph(self) -> str:
        known: dict[str, str] = {}
        return _digest(*(self._reference(name, self._nodes, known) for name in self._results))

    def _function(self, name: str) -> str:
        if name not in self._done:
            self._done[name] = "recursion"
            function = self._functions[name]
            nodes = {node.name: node for node in function.node_def}
            arguments = function.signature.input_arg
            known = {found.name: f"argument {index}" for index, found in enumerate(arguments)}
            results = [function.ret[found.name] for found in function.signature.output_arg]
            effects = ["^" + function.control_ret[key] for key in sorted(function.control_ret)]
            parts = [self._reference(found, nodes, known) for found in [*results, *effects]]
            self._done[name] = _digest(*parts)
        return self._done[name]

    def _reference(self, reference: str, nodes: dict[str, Any], known: dict[str, str]) -> str:
        """Hash what an input refers to: `^control`, `node`, `node:0` or `node:output:0`."""
        name, _, output = reference.removeprefix("^").partition(":")
        if name not in known:
            known[name] = self._node(nodes[name], nodes, known)
        return f"{'^' if reference.startswith('^') else ''}{known[name]}:{output or 0}"

    def _node(self, node: Any, nodes: dict[str, Any], known: dict[str, str]) -> str:
        inputs = [self._reference(found, nodes, known) for found in node.input]
        attributes = [
            f"{name}={self._attribute(node.attr[name])}"
            for name in sorted(node.attr)
            if name not in _IGNORED and not name.startswith("_")
        ]
        return _digest(node.op, *inputs, *attributes)

    def _attribute(self, value: Any) -> str:
        if value.HasField("func"):
            return self._call(value.func)
        if value.HasField("list") and value.list.func:
            return _digest(*(self._call(function) for function in value.list.func))
        if value.HasField("tensor") and value.tensor.dtype == types_pb2.DT_RESOURCE:
            return "resource"
        return hashlib.sha256(value.SerializeToString(deterministic=True)).hexdigest()

    def _call(self, function: Any) -> str:
        return self._function(function.name) if function.name in self._functions else function.name


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)} {part}".encode())
    return digest.hexdigest()
