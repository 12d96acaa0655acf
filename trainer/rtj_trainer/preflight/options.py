"""The options of tf.data that a position depends on, whatever the builder chose."""

from typing import Any

import tensorflow as tf

_READING_AHEAD = (
    "filter_parallelization",
    "inject_prefetch",
    "map_and_batch_fusion",
    "map_parallelization",
    "parallel_batch",
)
"""Optimisations that make a pipeline read ahead where it does not say so."""


def exact(dataset: Any, as_written: bool = False) -> Any:
    """Return a dataset in a fixed order, whose iterator is saved with its buffers.

    A symbolic checkpoint saves random operations without an error and then gives other numbers, and
    restoring one can hang.

    Args:
        dataset: As the builder made it.
        as_written: Whether tf.data may not read ahead where the builder did not say so
            (`rtj_trainer.preflight.overruns`).
    """
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_symbolic_checkpoint = False
    if as_written:
        options.experimental_optimization.apply_default_optimizations = False
        for name in _READING_AHEAD:
            setattr(options.experimental_optimization, name, False)
    return dataset.with_options(options)
