"""The data files that a pipeline reads, as its graph names them, whoever wrote the names down.

A parameter tells only of what the builder was given; a path within the builder, or one that it made
of several parameters, is a constant of the graph. Constants are all sorts of texts, so only those
count that are files, patterns, or URLs that TensorFlow can read; `rtj_trainer.data_files` looks
which files these match.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from rtj_trainer.data_files import is_pattern
from rtj_trainer.preflight.graph import FoundNode, PipelineGraph
from rtj_trainer.urls import scheme, without_file_scheme

_MANY = 100_000
"""Texts of a constant that are tried: to try more would take long on a network volume."""

log = logging.getLogger(__name__)


def file_names(graph: PipelineGraph) -> list[str]:
    """Return the files and patterns that constants of a graph name, and folders that it loads.

    Other folders are left out: a constant "/" is a separator, not all files that there are.
    """
    constants = (name for found in graph.find("Const") for name in _files_of(found))
    loaded = (found.constant_input(0) for found in graph.find("LoadDataset"))
    folders = (_folder(name.decode()) for name in loaded if isinstance(name, bytes))
    return sorted({*constants, *folders})


def _folder(name: str) -> str:
    local = without_file_scheme(name)
    return local if scheme(local) else str(Path(local).absolute())


def _files_of(constant: FoundNode) -> Iterator[str]:
    tensor = constant.node.attr["value"].tensor
    if tensor.dtype != tf.string.as_datatype_enum:
        return
    texts = _texts(tensor)
    schemes = {*tf.io.gfile.get_registered_schemes()} - {""}
    known = False
    for content in texts[:_MANY].numpy().tolist():
        name = without_file_scheme(content.decode(errors="replace"))
        if "\0" not in name and (is_pattern(name) or _is_file(name) or scheme(name) in schemes):
            known = True
            yield name
    if known and len(texts) > _MANY:
        log.warning(
            "the pipeline names %d data files in one list; whether one of the first %d was "
            "exchanged is seen after a restart, of the others only whether they have other names",
            len(texts),
            _MANY,
        )


def _texts(tensor: Any) -> Any:
    """Return all texts of a constant, shape [n]."""
    # Not make_ndarray: it cannot read several texts as TensorFlow packs them into the constant.
    return tf.reshape(tf.io.parse_tensor(tensor.SerializeToString(), tf.string), [-1])


def _is_file(text: str) -> bool:
    return os.path.isfile(text)  # noqa: PTH113 - that of Path fails for a text that is too long
