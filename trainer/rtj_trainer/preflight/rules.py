"""Which operations make a pipeline impossible to resume exactly, and what to write instead.

Each row was found by killing and resuming such a pipeline, or by asking TensorFlow to save it.
"""

from collections.abc import Callable, Iterator

from rtj_trainer.preflight import reshuffling
from rtj_trainer.preflight.graph import PipelineGraph

PYTHON_OPERATIONS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")

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

# Operation -> (what the user wrote, what to write instead). The first row that fits is reported.
_FORBIDDEN: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("GeneratorDataset",),
        "Dataset.from_generator, whose Python state cannot be saved",
        "write the examples to TFRecord files once and read those",
    ),
    (
        PYTHON_OPERATIONS,
        "py_function or numpy_function, which may depend on anything",
        "write the function with TensorFlow operations, or apply it once and read its output",
    ),
    (
        RANDOM_OPERATIONS,
        "a random operation whose state cannot be saved (tf.random.*)",
        "use tf.random.stateless_* with a seed from ds.enumerate(), such as seed=[number, 0]",
    ),
    (
        ("RngReadAndSkip", "RngSkip", "StatefulUniform", "StatefulStandardNormalV2"),
        "a tf.random.Generator, whose state is not saved with the iterator",
        "use tf.random.stateless_* with a seed made from the element's number (ds.enumerate())",
    ),
    (
        (
            "ReadVariableOp",
            "AssignVariableOp",
            "AssignAddVariableOp",
            "AssignSubVariableOp",
            "ResourceGather",
        ),
        "a tf.Variable, whose value may change while the pipeline runs",
        "make it a constant: tf.constant(variable.numpy())",
    ),
    (
        ("SnapshotDataset", "SnapshotDatasetV2", "SaveDataset", "SaveDatasetV2"),
        "snapshot() or save(), which leave half-written files after a kill",
        "write the files before the job and read them with Dataset.load or TFRecordDataset",
    ),
    (
        ("DummySeedGenerator", "DummyMemoryCache"),
        "shuffle() or cache() within a function, as in interleave(lambda f: ….shuffle(…))",
        "call it on the dataset after interleave or flat_map",
    ),
)


def problems(graph: PipelineGraph) -> Iterator[str]:
    """Yield a sentence for each reason why a pipeline cannot be resumed exactly."""
    known = False
    for operations, what, instead in _FORBIDDEN:
        hits = graph.operations().intersection(operations)
        if hits:
            known = True
            yield f"it uses {what} ({', '.join(sorted(hits))}); {instead}"
            if "GeneratorDataset" in hits:
                break  # a generator is made of PyFuncs: one reason is enough
    for check in _CHECKS:
        yield from check(graph)
    if graph.stateful and not known:
        yield f"TensorFlow cannot save it: {graph.stateful}; use a stateless operation instead"


def _cache_in_file(graph: PipelineGraph) -> Iterator[str]:
    for node in graph.find("CacheDataset", "CacheDatasetV2"):
        filename = node.constant_input(1)
        if filename not in (b"", ""):
            name = filename.decode() if isinstance(filename, bytes) else "a computed name"
            yield (
                f"it uses cache({name!r}), whose lock files and half-written data break every "
                "restart after a kill; use cache() in memory, or write files before the job"
            )


def _order_not_deterministic(graph: PipelineGraph) -> Iterator[str]:
    for scope in graph.scopes():
        for node in scope:
            if "deterministic" in node.attr and node.attr["deterministic"].s == b"false":
                yield f"{node.op} has deterministic=False, so its order is chance; leave that out"
            if "sloppy" in node.attr and node.attr["sloppy"].b:
                yield f"{node.op} is sloppy, so its order is chance; leave that out"


def _unseeded_shuffle(graph: PipelineGraph) -> Iterator[str]:
    if any(seeds == (0, 0) for seeds in graph.shuffle_seeds()):
        yield (
            "it has a shuffle without a seed although the job sets one; "
            "do not call tf.random.set_seed in the builder, or pass seed= to shuffle"
        )


_CHECKS: tuple[Callable[[PipelineGraph], Iterator[str]], ...] = (
    _cache_in_file,
    _order_not_deterministic,
    _unseeded_shuffle,
)


def must_be_replayed(graph: PipelineGraph) -> str | None:
    """Return why an iterator of this pipeline is restored wrongly although it saves, or None."""
    if any(node.constant_input(3) is not False for node in graph.find(*_CSV)):
        what = "restores a CSV reader with a header wrongly"
    elif any(graph.find("DirectedInterleaveDataset")):
        what = "restores a mixture that never returns (sample_from_datasets, choose_from_datasets)"
    elif generator := reshuffling.unsaved(graph):
        what = f"does not save the place {generator} at every batch"
    else:
        return None
    return f"tf.data {what}, so what is before the position is read again after a restart"


_CSV = ("CSVDataset", "CSVDatasetV2")
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
