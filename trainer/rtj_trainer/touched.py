"""What a traced function reads and writes outside of itself, and whether all of that can be saved.

A function's `variables` are not enough: TensorFlow lists there what was read through Python, and
leaves out a variable that is only added to, and the state of a `tf.random.Generator`. What a graph
can reach at all is what it captured, so that is looked at: each captured resource is a variable,
which can be read and written through its handle, or something else, such as a lookup table.

Operations with state of their own are refused unless they are known to keep it in such a variable,
or to keep none that a later step sees.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import tensorflow as tf
from rtj_api.names import Reason
from tensorflow.core.framework import types_pb2
from tensorflow.python.ops import handle_data_util

from rtj_trainer.errors import PermanentError
from rtj_trainer.preflight.graph import PipelineGraph, is_stateful

_HARMLESS = re.compile(
    r"""
    (Read|Assign|AssignAdd|AssignSub|DisableCopyOnRead)Variable(s)?Op | DisableCopyOnRead
    | VarHandleOp | VarIsInitializedOp | VariableShape | DestroyResourceOp
    | Resource(Apply|SparseApply|Scatter|StridedSlice|Gather|CountUpTo|Accumulator).*
    | Rng(ReadAndSkip|Skip) | Stateful(Uniform|StandardNormal|TruncatedNormal|RandomBinomial).*
    | (Stateful)?PartitionedCall | If | While | Case | For | RemoteCall | SymbolicGradient
    | Assert | Print(V2)? | Abort | CheckNumerics.* | .*Summary.*
    | TensorArray.* | Stack(V2|Push|PushV2|Pop|PopV2|Close|CloseV2) | TensorList.* | OptionalNone
    | LookupTable(Find|Size|Export)(V2)? | StatelessRandomGetAlg | DeviceIndex
    | GuaranteeConst | DeepCopy | Empty | IsTensorFloat32Enabled | WriteFile
    | Collective.* | Nccl.* | Xla.* | CudnnRNN.* | _?(Host)?(Send|Recv) | ReadFile | NoOp
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, eq=False)
class Handle:
    """A variable, as a graph sees it."""

    resource: Any
    dtype: Any
    shape: Any

    def read(self) -> Any:
        """Return its value, without a copy."""
        return tf.raw_ops.ReadVariableOp(resource=self.resource, dtype=self.dtype)

    def write(self, value: Any) -> None:
        """Give it a value.

        Raises:
            ValueError: the value has another shape or type.
        """
        if value.dtype != self.dtype:
            raise ValueError(f"a variable of {self.dtype.name} cannot hold {value.dtype.name}")
        if not self.shape.is_compatible_with(value.shape):
            raise ValueError(f"a variable of shape {self.shape} cannot hold one of {value.shape}")
        tf.raw_ops.AssignVariableOp(resource=self.resource, value=value)


def handle_of(resource: Any) -> Handle | None:
    """Return the variable that a captured tensor stands for; None if it is no variable."""
    if resource.dtype != tf.resource:
        return None
    data = handle_data_util.get_handle_data(resource)
    if data is None or not data.is_set or len(data.shape_and_type) != 1:
        return None
    (known,) = data.shape_and_type
    return Handle(resource, tf.dtypes.as_dtype(known.dtype), tf.TensorShape(known.shape))


def handles(concrete: Any) -> list[Handle]:
    """Return every variable that a traced function can reach, in the order of capture."""
    found = (handle_of(outside) for outside, _ in concrete.graph.captures)
    return [handle for handle in found if handle]


def hidden_operations(concrete: Any) -> list[str]:
    """Return the operations of a traced function with state that cannot be saved."""
    definition = concrete.graph.as_graph_def()
    own = {function.signature.name for function in definition.library.function}
    return hidden_among(PipelineGraph(definition, stateful=None).operations() - own)


def hidden_among(operations: set[str]) -> list[str]:
    """Return those of some operations that have state that cannot be saved."""
    return sorted(
        name for name in operations if is_stateful(name) and not _HARMLESS.fullmatch(name)
    )


def refuse_hidden(what: str, operations: list[str]) -> NoReturn:
    """Refuse a function that uses operations from `hidden_operations`.

    Raises:
        PermanentError: `PipelineNotResumable`.
    """
    raise PermanentError(
        Reason.PIPELINE_NOT_RESUMABLE,
        f"{what} uses {', '.join(operations)}, whose state cannot be saved, so "
        "training was not started: use keras.random.* with a SeedGenerator instead "
        "of tf.random.*, a tf.Variable instead of a table, queue or iterator, and TensorFlow "
        "operations instead of Python functions",
    )


_IGNORED = {"shared_name", "container", "config_proto", "executor_type", "device"}


def graph_sha256(concrete: Any) -> str:
    """Return a digest of what a traced function computes, constants included.

    It is the same in each process that builds the same model: names and texts are left out, since
    Keras numbers layers by what was built before.
    """
    definition = concrete.graph.as_graph_def()
    functions = {found.signature.name: found for found in definition.library.function}
    return _Hasher(functions).function(concrete.function_def)


class _Hasher:
    def __init__(self, functions: dict[str, Any]) -> None:
        self._functions = functions
        self._done: dict[str, str] = {}

    def function(self, function: Any) -> str:
        """Hash the nodes in their order, which is that of tracing, inputs by number."""
        numbers: dict[str, int] = {}
        digest = hashlib.sha256()
        for argument in function.signature.input_arg:
            numbers[argument.name] = len(numbers)
            digest.update(f"{argument.type}\n".encode())
        for node in function.node_def:
            numbers[node.name] = len(numbers)
        for node in function.node_def:
            inputs = sorted(_numbered(found, numbers) for found in node.input if found[0] == "^")
            inputs += [_numbered(found, numbers) for found in node.input if found[0] != "^"]
            digest.update(f"{node.op} {' '.join(inputs)}\n".encode())
            for name in sorted(node.attr):
                if name not in _IGNORED and not name.startswith("_"):
                    digest.update(f"{name}={self._attribute(node.attr[name])}\n".encode())
        results = [
            _numbered(function.ret[key.name], numbers) for key in function.signature.output_arg
        ]
        digest.update(" ".join(results).encode())
        return digest.hexdigest()

    def _attribute(self, value: Any) -> str:
        if value.HasField("func"):
            return self._call(value.func.name)
        if value.HasField("list") and value.list.func:
            return " ".join(self._call(found.name) for found in value.list.func)
        if value.HasField("tensor") and value.tensor.dtype in (
            types_pb2.DT_STRING,
            types_pb2.DT_RESOURCE,
        ):
            return "left out"
        if value.HasField("s"):
            return "left out" if len(value.s) > _LONGEST_WORD else value.s.hex()
        return hashlib.sha256(value.SerializeToString(deterministic=True)).hexdigest()

    def _call(self, name: str) -> str:
        if name not in self._functions:
            return name
        if name not in self._done:
            self._done[name] = "recursion"
            self._done[name] = self.function(self._functions[name])
        return self._done[name]


_LONGEST_WORD = 16
"""Attributes that choose something have short texts; messages and names are long."""


def _numbered(reference: str, numbers: dict[str, int]) -> str:
    name, _, rest = reference.removeprefix("^").partition(":")
    return f"{'^' if reference.startswith('^') else ''}{numbers[name]}:{rest}"
