"""What the numbers depend on besides the program: versions, the machine, threads.

TensorFlow is told to be deterministic, and what could change the last bits is kept in each commit
and compared (`rtj_trainer.fingerprint`).
"""

import os
import platform
from collections.abc import Mapping
from typing import Any

from rtj_trainer import startup


def prepare_tensorflow(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Make TensorFlow deterministic, with as many threads as the first attempt had.

    The gradient of a convolution is summed in as many parts as there are threads, op determinism or
    not, so a node with more cores would give other last bits. Call this before anything else
    touches TensorFlow.

    Args:
        saved: What this returned to the attempt that made the commit; empty at a first start.
    """
    startup.end_import()
    import keras
    import tensorflow as tf

    startup.TIMES.ended("import")
    threads = int(saved.get("intraOpThreads") or len(os.sched_getaffinity(0)))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "machine": platform.machine(),
        "accelerators": [device.device_type for device in tf.config.list_physical_devices("GPU")],
        "intraOpThreads": threads,
    }
