"""Which operations make a pipeline impossible to resume exactly, and what to write instead.

Each row was found by killing and resuming such a pipeline, or by asking TensorFlow to save it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rtj_trainer.preflight import caches, randomness, reshuffling
from rtj_trainer.preflight.graph import PipelineGraph
from rtj_trainer.preflight.lines import BuilderLines
from rtj_trainer.preflight.overruns import Overrun, overruns

PYTHON_OPERATIONS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


@dataclass(frozen=True)
class Problem:
    """One reason why a pipeline cannot be resumed exactly."""

    what: str
    instead: str
    operations: tuple[str, ...] = ()

    def sentence(self, lines: BuilderLines) -> str:
        """Return the reason, the operations with the lines that made them, and what to write."""
        made = dict.fromkeys(line for name in self.operations for line in lines.of(name))
        where = ", ".join([*self.operations, *made])
        return f"{self.what}{f' ({where})' if where else ''}; {self.instead}"


@dataclass(frozen=True)
class _Forbidden:
    operations: tuple[str, ...]
    what: str
    instead: str
    brings: tuple[str, ...] = ()
    """Operations of later rows that come with these, and are no reason of their own."""


_VARIABLES = (
    "ReadVariableOp",
    "AssignVariableOp",
    "AssignAddVariableOp",
    "AssignSubVariableOp",
    "ResourceGather",
)
_FORBIDDEN = (
    _Forbidden(
        ("GeneratorDataset",),
        "it uses Dataset.from_generator, whose Python state cannot be saved",
        "write the examples to TFRecord files once and read those",
        brings=PYTHON_OPERATIONS,
    ),
    _Forbidden(
        PYTHON_OPERATIONS,
        "it uses py_function or numpy_function, which may depend on anything",
        "write the function with TensorFlow operations, or apply it once and read its output",
    ),
    _Forbidden(
        ("RngReadAndSkip", "RngSkip", "StatefulUniform", "StatefulStandardNormalV2"),
        "it uses a tf.random.Generator, whose state is not saved with the iterator",
        "use tf.random.stateless_* with a seed made from the element's number (ds.enumerate())",
        brings=_VARIABLES,
    ),
    _Forbidden(
        _VARIABLES,
        "it uses a tf.Variable, or a Keras layer that has one as random layers do, whose value may "
        "change while the pipeline runs",
        "make it a constant: tf.constant(variable.numpy()); move a random layer into the model, or "
        "use tf.image.stateless_random_* with a seed from ds.enumerate()",
    ),
    _Forbidden(
        ("LookupTableInsertV2", "LookupTableRemoveV2"),
        "it writes into a lookup table, whose content is not saved with the iterator",
        "fill the table in the builder, before the dataset",
    ),
    _Forbidden(
        ("Timestamp",),
        "it uses tf.timestamp, which is another in each run",
        "leave it out, or read times from the data",
    ),
    _Forbidden(
        ("CheckNumerics", "CheckNumericsV2"),
        "it uses tf.debugging.check_numerics, which TensorFlow cannot save",
        "use tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(x)), [x])",
    ),
    _Forbidden(
        ("SnapshotDataset", "SnapshotDatasetV2", "SaveDataset", "SaveDatasetV2"),
        "it uses snapshot() or save(), which leave half-written files after a kill",
        "write the files before the job and read them with Dataset.load or TFRecordDataset",
    ),
    _Forbidden(
        ("DummySeedGenerator", "DummyMemoryCache"),
        "it uses shuffle() or cache() within a function, as in interleave(lambda f: ….shuffle(…))",
        "call it on the dataset after interleave or flat_map",
    ),
)

RANDOM_INSTEAD = "use tf.random.stateless_* with a seed from ds.enumerate(), such as seed=[n, 0]"


def problems(graph: PipelineGraph) -> Iterator[Problem]:
    """Yield each reason why a pipeline cannot be resumed exactly."""
    known = randomness.draws(graph)
    operations = graph.operations()
    for row in _FORBIDDEN:
        hits = operations.intersection(row.operations)
        if hits:
            known = True
            yield Problem(row.what, row.instead, tuple(sorted(hits)))
            operations -= set(row.brings)
    for check in _CHECKS:
        yield from check(graph)
    if graph.stateful and not known:
        yield _stateful(graph.stateful)
    elif not graph.definition.node:
        yield Problem(
            "its graph is above the 2 GB that TensorFlow can show, as with large arrays in "
            "from_tensor_slices",
            "write the examples to files, such as TFRecord, and read those",
        )


def _stateful(complaint: str) -> Problem:
    operation = complaint.split(" ")[0]
    if operation.startswith("DataService"):
        return Problem(
            "it uses the tf.data service, whose position is in other processes",
            "read in the trainer itself, with interleave and map(num_parallel_calls=…)",
        )
    if operation in ("RemoteCall", "AnonymousIterator") or "GeneratorDatasetOp" in operation:
        return Problem(
            "it uses prefetch_to_device or copy_to_device, whose iterator cannot be saved",
            "use prefetch(): the trainer's step copies each batch itself",
        )
    return Problem(
        f"TensorFlow cannot save it: {complaint}",
        "use a stateless operation instead",
        (operation,) if complaint.endswith("is stateful") else (),
    )


def _random(graph: PipelineGraph) -> Iterator[Problem]:
    if not randomness.draws(graph):
        return
    if not randomness.comes_again(graph):
        yield random_problem(graph, "elsewhere than directly in map or filter, or without a seed")
    elif others := randomness.other_state(graph):
        yield Problem(
            "it uses operations whose state cannot be saved beside tf.random.*",
            "use stateless operations instead",
            tuple(others),
        )


def random_problem(graph: PipelineGraph, where: str) -> Problem:
    """Return the refusal of random operations at a place where they cannot be replayed."""
    hits = graph.operations().intersection(randomness.RANDOM_OPERATIONS)
    what = f"it uses a random operation whose state cannot be saved (tf.random.*) {where}"
    return Problem(what, RANDOM_INSTEAD, tuple(sorted(hits)))


def read_beyond_a_cut(graph: PipelineGraph, once: bool) -> Iterator[Problem]:
    """Yield each place where the builder reads ahead of what it then cuts off.

    Args:
        graph: Of a dataset.
        once: Whether there is a single pass over the dataset after it is built.
    """
    found = (overrun for overrun in overruns(graph, once) if overrun.ahead)
    yield from dict.fromkeys(map(_overrun, found))


def _overrun(overrun: Overrun) -> Problem:
    operations = tuple(dict.fromkeys(name for name in (overrun.cut, overrun.ahead) if name))
    cut = _CUTTING.get(overrun.cut, f"the function of {overrun.cut}")
    instead = f"use prefetch(), num_parallel_calls and the like after {cut} only"
    if overrun.twice:
        return Problem(
            f"{cut} has one shuffle in two inputs that repeat it, and one of them is read ahead, "
            "so which begins its next order first is a matter of timing",
            f"{instead}, or call shuffle() for each input by itself",
            operations,
        )
    random = overrun.node.op not in reshuffling.DRAWING
    if overrun.cut == overrun.ahead:
        what, other = ("dataset with tf.random.*", RANDOM_INSTEAD) if random else _ONE_SHUFFLE
        return Problem(
            f"{cut} reads one {what} in several calls at once, so which of them draws from it "
            "first is a matter of timing",
            f"use interleave() without num_parallel_calls, or {other}",
            operations,
        )
    return Problem(
        f"{cut} may end before its input, which is read ahead, so how far "
        f"{'tf.random.*' if random else 'a shuffle'} has gone on by the next epoch is a matter of "
        "timing",
        f"{instead}, or {RANDOM_INSTEAD if random else 'leave out repeat() behind the shuffle'}",
        operations,
    )


_ONE_SHUFFLE = "shuffle", "call shuffle() on the dataset after it"
_CUTTING = {
    "DirectedInterleaveDataset": "the mixture (sample_from_datasets, rejection_resample, …)",
    "TakeDataset": "take()",
    "TakeWhileDataset": "take_while()",
    "ZipDataset": "zip()",
}


def _cache_in_file(graph: PipelineGraph) -> Iterator[Problem]:
    for node in graph.find("CacheDataset", "CacheDatasetV2"):
        filename = node.constant_input(1)
        if filename not in (b"", ""):
            name = repr(filename.decode()) if isinstance(filename, bytes) else "a computed name"
            yield Problem(
                f"it uses cache({name}), whose lock files and half-written data break every "
                "restart after a kill",
                "leave the file out and use cache() in memory, or set spec.dataset.cache, which "
                "writes the examples once and survives kills",
                (node.node.op,),
            )


def _order_not_deterministic(graph: PipelineGraph) -> Iterator[Problem]:
    leave = "so its order is chance", "leave that out"
    for scope in graph.scopes():
        for node in scope:
            if "deterministic" in node.attr and node.attr["deterministic"].s == b"false":
                what = f"{node.op} has deterministic=False, {leave[0]}"
            elif "sloppy" in node.attr and node.attr["sloppy"].b:
                what = f"{node.op} is sloppy, {leave[0]}"
            else:
                continue
            yield Problem(what, leave[1], (node.op,))


def _unseeded_shuffle(graph: PipelineGraph) -> Iterator[Problem]:
    if any(seeds == (0, 0) for seeds in graph.shuffle_seeds()):
        yield Problem(
            "it has a shuffle without a seed although the job sets one",
            "do not call tf.random.set_seed in the builder, or pass seed= to shuffle",
        )


def _table_outside(graph: PipelineGraph) -> Iterator[Problem]:
    if any(_is_table(found.node) for found in graph.find("Const")):
        yield Problem(
            "it uses a lookup table whose content TensorFlow does not show, as DenseHashTable, so "
            "no restart could compare it",
            "use tf.lookup.StaticHashTable or tf.lookup.experimental.MutableHashTable",
            tuple(sorted(name for name in graph.operations() if name.startswith("LookupTable"))),
        )


def _is_table(constant: Any) -> bool:
    """Return whether a constant is only the handle of a table; most are in the graph as a whole."""
    handles = constant.attr["value"].tensor.resource_handle_val
    return any("LookupInterface" in handle.maybe_type_name for handle in handles)


_CHECKS: tuple[Callable[[PipelineGraph], Iterator[Problem]], ...] = (
    _random,
    _cache_in_file,
    _order_not_deterministic,
    _table_outside,
    _unseeded_shuffle,
)


def must_be_replayed(graph: PipelineGraph) -> str | None:
    """Return why an iterator of this pipeline is restored wrongly although it saves, or None."""
    if any(node.constant_input(3) is not False for node in graph.find(*_CSV)):
        what = "restores a CSV reader with a header wrongly"
    elif any(graph.find(*_MIXING)):
        what = "restores a mixture that never returns (sample_from_datasets, choose_from_datasets)"
    elif randomness.draws(graph):
        what = f"cannot save the state of tf.random.* (for a quick restart {RANDOM_INSTEAD})"
    elif caches.shared(graph):
        what = "restores a cache wrongly that is read at two places"
    elif generator := reshuffling.unsaved(graph):
        what = f"does not save the place {generator} at every batch"
    else:
        return None
    return f"tf.data {what}, so what is before the position is read again after a restart"


_CSV = ("CSVDataset", "CSVDatasetV2")
_MIXING = ("DirectedInterleaveDataset",)

_ALLOWED_AFTER_INDEXED = {"RangeDataset", "MapDataset", "ParallelMapDatasetV2", "PrefetchDataset"}
_NEUTRAL = {"OptionsDataset", "ModelDataset", "AssertCardinalityDataset"}


def not_one_to_one(graph: PipelineGraph) -> list[str]:
    """Return the dataset operations that may not follow `rtj_trainer.data.indexed`."""
    datasets = {
        node.op
        for node in graph.definition.node
        if "Dataset" in node.op and not node.op.startswith("_")
    }
    return sorted(datasets - _ALLOWED_AFTER_INDEXED - _NEUTRAL)
