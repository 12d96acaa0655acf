"""The options of tf.data that a position depends on, whatever the builder chose."""

from typing import Any

import tensorflow as tf


def exact(dataset: Any) -> Any:
    """Return a dataset in a fixed order, whose iterator is saved with its buffers.

    A symbolic checkpoint saves random operations without an error and then gives other numbers, and
    restoring one can hang.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_symbolic_checkpoint = False
    return dataset.with_options(options)
