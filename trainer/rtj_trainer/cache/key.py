"""The name of a cache: a digest of all that decides which examples are in it.

The pipeline's graph is the builder's code as TensorFlow sees it, with parameters, constants, seeds
and file names in it. So another model in the same builder, or a parameter that the dataset does not
depend on, shares the cache. What the graph does not show is added: the data in files, the names in
the structure of an example, and the builder's text where a lookup table is used, whose content is
not in the graph. So is the job where a source is only sampled: nobody can say whether another job's
cache has the same examples.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import tensorflow as tf

from rtj_trainer.cache.writer import SHARD_BYTES
from rtj_trainer.data_files import look_at
from rtj_trainer.preflight.graph import PipelineGraph
from rtj_trainer.preflight.named import file_names

_FORMAT = 1


def key_of(
    identity: dict[str, Any],
    graph: PipelineGraph,
    element_spec: Any,
    params: dict[str, Any],
    source: dict[str, str],
    own: Path,
    *,
    sampled: bool,
) -> str:
    """Return the name of the cache.

    Args:
        identity: Of the pipeline of blocks (`rtj_trainer.pipeline.Pipeline.identity`).
        graph: Of that pipeline.
        element_spec: Of one example.
        params: Of the dataset function.
        source: Digests of the builder's files.
        own: The job's folder.
        sampled: Whether the pipeline reads a source whose contents are known of some examples only.
    """
    data = look_at([params, file_names(graph)], own)
    unseen = sampled or any(name.startswith("LookupTable") for name in graph.operations())
    depends_on = {
        "format": [_FORMAT, SHARD_BYTES],
        "pipeline": identity,
        "elementSpec": str(element_spec),
        "params": params if unseen else None,
        "source": source if unseen else None,
        "files": data.contents,
        "fileTimes": data.times,
        "tensorflow": tf.__version__,
        **({"job": own.name} if sampled else {}),
    }
    text = json.dumps(depends_on, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
