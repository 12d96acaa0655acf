"""What a traced function reads from outside of itself: compared, as no commit holds it.

TensorFlow makes a small constant a part of the graph, and captures a large one, like the tables
that a layer looks words up in. Both are made anew by each attempt, so they must come out alike.
Of the variables, whose values are in each commit, it is compared which one is read where: two that
a program makes in another order have changed places.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.errors import PermanentError
from rtj_trainer.tensor_file import bytes_of
from rtj_trainer.touched import handle_of

_OF_TABLES = {"LookupTableFindV2": ("Tin", "Tout"), "LookupTableExportV2": ("Tkeys", "Tvalues")}
"""Operations that tell the types of a table, and their attributes for those of keys and values."""


@dataclass(frozen=True)
class Captured:
    """All that a traced function reads from outside."""

    sha256: str
    """Of all of it in order."""
    contents: set[str]
    """The sha256 of each constant and table, in whatever order they are read."""


def captured(concrete: Any, names: Mapping[int, str]) -> Captured:
    """Return what a traced function reads from outside.

    Args:
        concrete: The function.
        names: Of the variables, by the id of their resource.

    Raises:
        PermanentError: `PipelineNotResumable`: it reads what can be neither saved nor compared.
    """
    readers = _Readers(concrete)
    whole = hashlib.sha256()
    contents: set[str] = set()
    for outside, inside in concrete.graph.captures:
        if handle_of(outside):
            whole.update(f"variable {names.get(id(outside))}\n".encode())
            continue
        if outside.dtype in (tf.resource, tf.variant):
            parts = _of_resource(outside, readers.of(inside))
        else:
            parts = _of_tensor(outside)
        own = hashlib.sha256()
        for part in parts:
            whole.update(part)
            own.update(part)
        contents.add(own.hexdigest())
    return Captured(whole.hexdigest(), contents)


class _Readers:
    """Finds what reads the arguments of a traced function, also in the functions that it calls."""

    def __init__(self, concrete: Any) -> None:
        self._graph = concrete.graph
        self._function = concrete.function_def
        arguments = [argument.name for argument in self._function.signature.input_arg]
        inputs = [id(tensor) for tensor in concrete.graph.inputs]
        self._names = dict(zip(inputs, arguments, strict=True))

    @cached_property
    def _functions(self) -> dict[str, Any]:
        library = self._graph.as_graph_def().library
        return {found.signature.name: found for found in library.function}

    def of(self, argument: Any) -> list[Any]:
        """Return the nodes that read an argument, given as the tensor within."""
        return list(self._of(self._function, self._names[id(argument)]))

    def _of(self, function: Any, name: str) -> Iterator[Any]:
        for node in function.node_def:
            inputs = [found.partition(":")[0] for found in node.input if found[0] != "^"]
            if name not in inputs:
                continue
            called = [self._functions[callee] for callee in _called(node)]
            if not called:
                yield node
            for body in called:
                arguments = [argument.name for argument in body.signature.input_arg]
                # The first inputs of an If or a Case choose between functions.
                given = inputs[len(inputs) - len(arguments) :]
                for argument, value in zip(arguments, given, strict=True):
                    if value == name:
                        yield from self._of(body, argument)


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (found.name for found in value.list.func)


def _of_tensor(tensor: Any) -> Iterator[bytes | memoryview]:
    array = np.asarray(tensor)
    yield f"{tensor.dtype.name}{list(array.shape)}\n".encode()
    if array.dtype == object:
        yield from (f"{len(text)} ".encode() + text for text in array.flat)
    else:
        yield bytes_of(array)


def _of_resource(resource: Any, readers: list[Any]) -> Iterator[bytes | memoryview]:
    table = next((node for node in readers if node.op in _OF_TABLES), None)
    operations = sorted({node.op for node in readers if "Summary" not in node.op})
    if table:
        yield from _of_table(resource, table)
    elif operations:
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE,
            f"{', '.join(operations)} in the training or test step reads what was made outside of "
            "it and can be neither saved nor compared at a restart, so training was not started: "
            "use a tf.Variable or a constant instead",
        )


def _of_table(table: Any, reader: Any) -> Iterator[bytes | memoryview]:
    """Yield keys and values in the order of the keys: a table gives them in any."""
    of_keys, of_values = (reader.attr[name].type for name in _OF_TABLES[reader.op])
    keys, values = tf.raw_ops.LookupTableExportV2(
        table_handle=table, Tkeys=of_keys, Tvalues=of_values
    )
    known = np.asarray(keys).tolist()
    order = sorted(range(len(known)), key=known.__getitem__)
    yield from _of_tensor(tf.gather(keys, order))
    yield from _of_tensor(tf.gather(values, order))
