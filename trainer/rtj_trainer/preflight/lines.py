"""Finds the line of the builder that made an operation, so that a refusal can point at it.

TensorFlow's graph of a pipeline names no source. But Python makes each dataset by a constructor,
which is watched while the builder runs, and each operation within a function has its traceback.
What is not found is left out: a refusal says what to write instead in any case.
"""

import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

_SHOWN = 3


class BuilderLines:
    """The datasets that a builder made, each with its line."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, str]] = []

    def add(self, dataset: Any, line: str) -> None:
        """Remember where a dataset was made."""
        self._made.append((dataset, line))

    def of(self, operation: str) -> list[str]:
        """Return at most three lines that made an operation, such as `builder.py:12`."""
        found: dict[str, None] = {}
        for dataset, line in self._made:
            if _kind(type(dataset).__name__) == _kind(operation):
                found[line] = None
            for graph in _graphs(dataset):
                found.update(dict.fromkeys(_lines_in(graph, operation, line)))
        return list(found)[:_SHOWN]


@contextmanager
def recorded_lines() -> Iterator[BuilderLines]:
    """Record the datasets that are made in this context."""
    lines = BuilderLines()
    original = tf.data.Dataset.__init__

    def recording(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        line = line_of_program()
        if line:
            lines.add(self, line)

    tf.data.Dataset.__init__ = recording
    try:
        yield lines
    finally:
        tf.data.Dataset.__init__ = original


def line_of_program() -> str:
    """Return the line of the user's program that is being run; empty if there is none."""
    return _innermost(_callers())


def _kind(name: str) -> str:
    """Return what `_CacheDataset` and `CacheDatasetV2` have in common."""
    return name.lstrip("_").rstrip("0123456789").removesuffix("V")


def _graphs(dataset: Any) -> Iterator[Any]:
    for function in dataset._functions():
        yield function.function.graph


def _lines_in(graph: Any, operation: str, line: str) -> Iterator[str]:
    """Yield the lines of an operation in a function, or the function's own if it is deeper."""
    for found in graph.get_operations():
        if found.type == operation:
            frames = ((frame.filename, frame.lineno) for frame in reversed(found.traceback))
            yield _innermost(frames) or line
            return
    library = graph.as_graph_def().library
    if any(node.op == operation for function in library.function for node in function.node_def):
        yield line


def _callers() -> Iterator[tuple[str, int]]:
    frame = sys._getframe(1)
    while frame:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]


def _innermost(frames: Iterable[tuple[str, int]]) -> str:
    """Return the first frame that is neither a library's nor generated; empty if there is none."""
    for filename, number in frames:
        if filename.startswith(_LIBRARIES) or "__autograph_generated" in filename:
            continue
        return f"{Path(filename).name}:{number}"
    return ""


_LIBRARIES = (
    "<",
    str(Path(__file__).parents[1]),
    str(Path(tf.__file__).parents[1]),
    sysconfig.get_path("stdlib"),
)
