"""Random operations whose numbers come again if the pipeline is read again from the beginning.

`tf.random.uniform` and `tf.image.random_*` count in a kernel that cannot be saved. It begins with
seeds that are in the graph, and with op determinism, which the trainer switches on, TensorFlow
calls it once for each example, in order, even in a parallel map. So a fresh process that reads
everything again draws the same numbers. That holds for a function of map() or filter(); within
loops and within the datasets of interleave() nobody promises the order of the calls. Nor does it
hold for numbers drawn ahead of a take() that then drops them: those `overruns` finds.
"""

from collections.abc import Iterator
from typing import Any

from rtj_trainer.preflight.graph import PipelineGraph, is_stateful

# Their state is inside of the kernel: it can be neither read nor saved.
RANDOM_OPERATIONS = (
    "RandomUniform",
    "RandomUniformInt",
    "RandomStandardNormal",
    "TruncatedNormal",
    "ParameterizedTruncatedNormal",
    "Multinomial",
    "RandomGamma",
    "RandomPoisson",
    "RandomPoissonV2",
    "RandomShuffle",
    "SampleDistortedBoundingBox",
    "SampleDistortedBoundingBoxV2",
)

_NO_STATE = ("Assert", "Print", "PrintV2", "LookupTableFindV2", "LookupTableSizeV2", "While")
"""TensorFlow calls them stateful and lets them pass, or names what they call."""
_IN_ORDER = ("MapDataset", "ParallelMapDatasetV2", "FilterDataset")
_CALLS = (
    "PartitionedCall",
    "StatefulPartitionedCall",
    "If",
    "StatelessIf",
    "Case",
    "StatelessCase",
)


def draws(graph: PipelineGraph) -> bool:
    """Return whether the pipeline has random operations with state."""
    return any(graph.find(*RANDOM_OPERATIONS))


def comes_again(graph: PipelineGraph) -> bool:
    """Return whether every random operation draws the same numbers in a fresh process."""
    if any(_seeds(found.node) == (0, 0) for found in graph.find(*RANDOM_OPERATIONS)):
        return False
    functions = _functions(graph)
    random = _random(functions)
    in_order: set[str] = set()
    otherwise: set[str] = set()
    for number, scope in enumerate(graph.scopes()):
        for node in scope:
            if node.op in _CALLS or node.op in functions:
                continue
            outermost = number == 0 and node.op in _IN_ORDER
            (in_order if outermost else otherwise).update(_reached(functions, node))
    return random <= in_order - otherwise


def drawing_nodes(graph: PipelineGraph) -> set[str]:
    """Return the names of the pipeline's own nodes that have a random operation with state."""
    functions = _functions(graph)
    random = _random(functions)
    return {node.name for node in graph.definition.node if random & _reached(functions, node)}


def other_state(graph: PipelineGraph) -> list[str]:
    """Return the other stateful operations in functions: TensorFlow complains of the first only."""
    names = {
        node.op for function in graph.definition.library.function for node in function.node_def
    }
    names -= {found.signature.name for found in graph.definition.library.function}
    known = {*RANDOM_OPERATIONS, *_CALLS, *_NO_STATE}
    return sorted(name for name in names - known if "Dataset" not in name and is_stateful(name))


def _functions(graph: PipelineGraph) -> dict[str, Any]:
    return {found.signature.name: found for found in graph.definition.library.function}


def _random(functions: dict[str, Any]) -> set[str]:
    """Return the names of the functions that have a random operation themselves."""
    return {
        name
        for name, function in functions.items()
        if any(node.op in RANDOM_OPERATIONS for node in function.node_def)
    }


def _seeds(node: Any) -> tuple[int, int]:
    return node.attr["seed"].i, node.attr["seed2"].i


def _called(node: Any, functions: dict[str, Any]) -> Iterator[str]:
    """Yield the functions that a node calls itself."""
    if node.op in functions:
        yield node.op
    for value in node.attr.values():
        for found in (value.func, *value.list.func):
            if found.name in functions:
                yield found.name


def _reached(functions: dict[str, Any], caller: Any) -> set[str]:
    """Return the functions that a node calls without a loop or a dataset between."""
    found: set[str] = set()
    waiting = list(_called(caller, functions))
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for node in functions[name].node_def:
            if node.op in _CALLS or node.op in functions:
                waiting += _called(node, functions)
    return found
