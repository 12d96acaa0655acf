"""The name of a cache: a digest of all that decides which examples are in it.

The pipeline's graph is the builder's code as TensorFlow sees it, with parameters, constants, seeds
and file names in it. So another model in the same builder, or a parameter that the dataset does not
depend on, shares the cache. What the graph does not show is added: the data in files, the names in
the structure of an example, and the builder's text where a lookup table is used, whose content is
not in the graph. So is the job where a source is only sampled: nobody can say whether another job's
cache has the same examples.

Times of files are in it, since samples do not tell all. But an init container that fetches the data
anew for each pod gives it other times, and then each attempt would begin a cache of its own. So a
job keeps to the name that its first start chose as long as nothing else changes; of the times the
fingerprint warns.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from rtj_trainer import files
from rtj_trainer.cache.writer import SHARD_BYTES
from rtj_trainer.commits.sealed import seal, unseal
from rtj_trainer.data_files import look_at
from rtj_trainer.preflight.graph import PipelineGraph
from rtj_trainer.preflight.named import file_names

_FORMAT = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """Names a cache."""

    name: str
    """A digest of all that the examples depend on."""
    but_for_times: str
    """A digest of the same without the times of files."""


def key_of(
    identity: dict[str, Any],
    graph: PipelineGraph,
    element_spec: Any,
    params: dict[str, Any],
    source: dict[str, str],
    own: Path,
    *,
    sampled: bool,
) -> Key:
    """Return the key of the cache.

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
        "tensorflow": tf.__version__,
        **({"job": own.name} if sampled else {}),
    }
    return Key(_digest({**depends_on, "fileTimes": data.times}), _digest(depends_on))


def _digest(depends_on: dict[str, Any]) -> str:
    text = json.dumps(depends_on, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def kept_name(key: Key, path: Path) -> str:
    """Return the name of the job's cache: that of its first start, if only times differ since.

    Args:
        key: As it is now.
        path: Where the job keeps it; written if nothing is there, or what is there is of another
            pipeline, of other data, or damaged.

    Raises:
        OSError: it cannot be read or written.
    """
    try:
        kept = Key(**unseal(path.read_bytes())["key"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        kept = None
    if kept is None or kept.but_for_times != key.but_for_times:
        files.replace_file(path, seal({"key": asdict(key)}))
        return key.name
    if kept.name != key.name:
        log.warning(
            "data files have other times than when the dataset's cache %s was begun, and the same "
            "sizes and samples; the job keeps to that cache",
            kept.name,
        )
    return kept.name
