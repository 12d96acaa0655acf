"""What the numbers depend on besides the program: versions, the machine, threads.

TensorFlow is told to be deterministic, and what could change the last bits is kept in each commit
and compared (`rtj_trainer.fingerprint`).
"""

import ctypes
import logging
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtj_trainer import startup

_VERSION_FUNCTIONS = {"cudnn": "cudnnGetVersion", "cublasLt": "cublasLtGetVersion"}
"""By library: those that choose how a convolution or a product of matrices is computed."""
_CPU_INFO = Path("/proc/cpuinfo")
_CPU_INFO_LINES = ("flags", "Features")
"""Where it tells what the CPU can do: on x86, on Arm."""
_INSTRUCTIONS = re.compile(r"avx|fma|f16c|amx|asimd|fphp|sve|i8mm|bf16")
"""Sets of vector instructions, by which a kernel is chosen and so the order of its sums."""
_SETTINGS = (
    *("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("XLA_FLAGS", "TF_XLA_FLAGS", "NVIDIA_TF32_OVERRIDE"),
)
"""Environment variables that choose kernels, too."""

log = logging.getLogger(__name__)


def prepare_tensorflow(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Make TensorFlow deterministic, with as many threads as the first attempt had.

    The gradient of a convolution is summed in as many parts as there are threads, op determinism or
    not, so a node with more cores would give other last bits. Call this before anything else
    touches TensorFlow.

    Args:
        saved: What this returned to the attempt that made the commit; empty at a first start.

    Returns:
        What belongs into the commits, as JSON.
    """
    startup.end_import()
    import keras
    import tensorflow as tf

    startup.TIMES.ended("import")
    threads = int(saved.get("intraOpThreads") or len(os.sched_getaffinity(0)))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()
    accelerators = [_model_of(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    log.info("training on %s, with %d threads", ", ".join(accelerators) or "the CPU", threads)
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "machine": platform.machine(),
        "instructions": instructions(),
        **{name: os.environ.get(name) for name in _SETTINGS},
        "accelerators": accelerators,
        "libraries": loaded_versions(_VERSION_FUNCTIONS) if accelerators else {},
        "intraOpThreads": threads,
    }


def _model_of(gpu: Any) -> str:
    """Return the name that its driver gives a GPU: another model has other kernels."""
    import tensorflow as tf

    return str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.device_type))


def instructions() -> list[str]:
    """Return the sets of vector instructions that the CPU has; none where it does not say."""
    with _CPU_INFO.open() as lines:
        for line in lines:
            name, _, flags = line.partition(":")
            if name.strip() in _CPU_INFO_LINES:
                return sorted(filter(_INSTRUCTIONS.match, flags.split()))
    return []


def loaded_versions(functions: Mapping[str, str]) -> dict[str, int]:
    """Return the versions of libraries that this process has loaded; others are left out.

    Args:
        functions: By name of a library, without `lib` and `.so`, the function of it that returns
            its version as a size_t.
    """
    mapped = [Path(line.split()[-1]) for line in Path("/proc/self/maps").read_text().splitlines()]
    versions = {}
    for library, name in functions.items():
        path = next((path for path in mapped if path.name.startswith(f"lib{library}.so")), None)
        if path:
            function = getattr(ctypes.CDLL(str(path)), name)
            function.restype = ctypes.c_size_t
            versions[library] = int(function())
    return versions
