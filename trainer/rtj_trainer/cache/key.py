"""The name of a cache: a digest of all that decides which examples are in it.

The pipeline's graph is the builder's code as TensorFlow sees it, with parameters, constants, seeds
and file names in it. So another model in the same builder, or a parameter that the dataset does not
depend on, shares the cache. What the graph does not show is added: the data in files, the names in
the structure of an example, and the builder's text where a lookup table is used, whose content is
not in the graph.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from rtj_trainer.cache.writer import SHARD_BYTES
from rtj_trainer.data_files import look_at
from rtj_trainer.preflight.graph import PipelineGraph

_FORMAT = 1
_MANY = 100_000


def key_of(
    identity: dict[str, Any],
    graph: PipelineGraph,
    element_spec: Any,
    params: dict[str, Any],
    source: dict[str, str],
    own: Path,
) -> str:
    """Return the name of the cache.

    Args:
        identity: Of the pipeline of blocks (`rtj_trainer.pipeline.Pipeline.identity`).
        graph: Of that pipeline.
        element_spec: Of one example.
        params: Of the dataset function.
        source: Digests of the builder's files.
        own: The job's folder.
    """
    data = look_at([params, list(_file_names(graph))], own)
    tables = any(name.startswith("LookupTable") for name in graph.operations())
    depends_on = {
        "format": [_FORMAT, SHARD_BYTES],
        "pipeline": identity,
        "elementSpec": str(element_spec),
        "params": params if tables else None,
        "source": source if tables else None,
        "files": data.contents,
        "fileTimes": data.times,
        "tensorflow": tf.__version__,
    }
    text = json.dumps(depends_on, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _file_names(graph: PipelineGraph) -> Iterator[str]:
    """Yield the files that constants of a graph name, or match as patterns.

    Folders are left out: a constant "/" is a separator, not all files that there are.
    """
    for found in graph.find("Const"):
        tensor = found.node.attr["value"].tensor
        for content in itertools.islice(tensor.string_val, _MANY):
            name = content.decode(errors="replace")
            is_pattern = name.startswith("/") and any(letter in name[1:] for letter in "*?[")
            names = sorted(map(str, Path("/").glob(name[1:])))[:_MANY] if is_pattern else [name]
            yield from filter(os.path.isfile, names)
