"""How many cores the training of a peer may take.

The threads of one operation are not all: independent operations, as the updates of Adam are, run at
once, each in a thread of its own. With one thread for an operation and the usual number of
operations at once, training took 1.6 of two cores.
"""

from typing import Any

import tensorflow as tf
from rtj_trainer.environment import prepare_tensorflow


def prepare(threads: int) -> dict[str, Any]:
    """Prepare TensorFlow as the trainer does, to take so many cores and no more."""
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return prepare_tensorflow({"intraOpThreads": threads})
