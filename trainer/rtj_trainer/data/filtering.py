"""A part of a source, chosen once by a predicate, so that its length is known and stays."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_trainer.data.source import Source, read_tensors
from rtj_trainer.data.store import Finding, find
from rtj_trainer.preflight import randomness, rules
from rtj_trainer.preflight.graph import PipelineGraph, read_graph
from rtj_trainer.preflight.identity import pipeline_sha256
from rtj_trainer.preflight.refusal import refuse

_READ_AT_ONCE = 64


def filtered(source: Source, predicate: Callable[[Any], Any]) -> Source:
    """Return the examples of a source for which a predicate is true.

    The whole source is read once at the first start; the places that were kept are stored beside
    the indices of files, under a digest of the source's contents and of the predicate as TensorFlow
    sees it, constants included. Those of `objects` are not stored, since nobody can see whether all
    items are the same: they are read whenever the dataset is built, at each start.

    Args:
        source: From a function of `rtj_trainer.data`.
        predicate: From a batch of the source, shape [n, …], to booleans of shape [n]; made of
            TensorFlow operations, without random numbers and lookup tables.

    Raises:
        TypeError: it gives something else.
        PermanentError: `PipelineNotResumable`: it may not give the same in every process.
    """
    places = tf.data.Dataset.range(len(source)).batch(_READ_AT_ONCE)
    flags = places.map(
        lambda batch: predicate(read_tensors(source, batch)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    _check_result(flags.element_spec)
    graph = read_graph(flags)
    _check_operations(graph)
    if source.sampled:  # Other examples may have changed since, in another job or in this process.
        return _Filtered(source, _kept(flags))
    depends_on = ["filter", source.contents, pipeline_sha256(graph.definition)]
    return _Filtered(source, find(depends_on, lambda: _kept(flags)))


def _check_result(spec: Any) -> None:
    if not isinstance(spec, tf.TensorSpec) or spec.dtype != tf.bool or spec.shape.rank != 1:
        raise TypeError(
            f"the predicate of filtered() gives {spec} for a batch of n examples; it must give one "
            "tensor of n booleans, as lambda rows: rows['label'] > 0 does"
        )


def _check_operations(graph: PipelineGraph) -> None:
    problems = list(rules.problems(graph))
    operations = graph.operations()
    random = sorted(operations.intersection(randomness.RANDOM_OPERATIONS))
    if random:
        problems.append(
            rules.Problem(
                "the predicate of filtered() draws random numbers",
                "choose by what is in an example, as tf.strings.to_hash_bucket_fast(name, 10) < 3",
                tuple(random),
            )
        )
    tables = sorted(name for name in operations if name.startswith("LookupTable"))
    if tables:
        problems.append(
            rules.Problem(
                "the predicate of filtered() uses a lookup table, whose content may change unseen",
                "compare with tf.constant, as tf.reduce_any(x[:, tf.newaxis] == wanted, axis=1)",
                tuple(tables),
            )
        )
    if problems:
        refuse([problem.sentence(graph.lines) for problem in problems])


def _kept(flags: Any) -> Finding:
    parts = [part.numpy() for part in flags]
    kept = np.flatnonzero(np.concatenate(parts)) if parts else np.zeros(0)
    kept = kept.astype(np.int64)
    return Finding(hashlib.sha256(kept.tobytes()).hexdigest(), kept)


class _Filtered(Source):
    def __init__(self, source: Source, found: Finding) -> None:
        self._source = source
        self._found = found

    def __len__(self) -> int:
        return len(self._found.numbers)

    @property
    def signature(self) -> Any:
        return self._source.signature

    @property
    def contents(self) -> dict[str, str]:
        inner = self._source.contents
        # Of a filter within a filter only the outer line is shown, so it speaks for both.
        text = json.dumps([inner, self._found.digest])
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {**inner, "filtered": f"{len(self)} of {len(self._source)}, {digest[:16]}"}

    @property
    def sampled(self) -> bool:
        return self._source.sampled

    def read(self, places: np.ndarray) -> list[np.ndarray]:
        return self._source.read(self._found.numbers[places])
