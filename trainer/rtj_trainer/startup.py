"""Makes the time from the start of the process to its first step short, and tells what it was.

TensorFlow's import is the largest part, so it begins before anything else, in a thread of its own.
Meanwhile the main thread takes the fence, and reads, hashes and links the commit to go on from,
which leaves Python's lock to the import. The garbage collector rests during the import, which makes
a million objects that stay; they are then put where it does not look at them any more, and from
then on it looks at new ones after as many as tracing makes, not after every 700. What of the public
interface nobody reads is not executed (`rtj_trainer.on_demand`), and what all operations ask of
Python alike is computed once (`rtj_trainer.compute_once`).

What is computed does not depend on any of this: the same calls are made in the same order.
"""

import gc
import logging
import os
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from rtj_trainer.compute_once import computing_once
from rtj_trainer.on_demand import execute_on_demand

log = logging.getLogger(__name__)

_COLLECT_AFTER = 50_000
"""New objects until the next collection: some megabytes."""
_INTERFACE = "tensorflow._api.v2"
"""What only gives public names to what TensorFlow's other modules define."""
_SELDOM_READ = ("h5py", "requests", "rich.console", "rich.markup", "rich.table")
"""Modules of other packages that Keras and TensorFlow import for what a training does not do."""
_BESIDE_THE_INTERFACE = {
    "distribute": "tensorflow.python.distribute.experimental.rpc.rpc_ops",
    "lite": "tensorflow.lite",
}
"""What makes packages attributes of TensorFlow that have the name of a part of the interface."""
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class StartUp:
    """The parts of the time until the first step, in the order of their ends.

    Args:
        began: When the process began, on the monotonic clock.
    """

    def __init__(self, began: float) -> None:
        self._began = self._last = began
        self._parts: dict[str, float] = {}
        self._over = False

    def ended(self, part: str) -> None:
        """Note that a part of it is over: the time since the part before."""
        now = time.monotonic()
        self._parts[part] = self._parts.get(part, 0.0) + now - self._last
        self._last = now

    def stepped(self) -> None:
        """Note that a step was taken; the first one is the end of it."""
        if self._over:
            return
        self._over = True
        self.ended("step")
        parts = ", ".join(f"{part} {seconds:.3f}" for part, seconds in self._parts.items())
        log.info("first step %.3f s after the start: %s", self._last - self._began, parts)


def process_start() -> float:
    """Return when this process was started, on the monotonic clock."""
    # The 22nd field; the second one, in parentheses, may have spaces.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return (
        int(fields[19]) / _CLOCK_TICKS + time.monotonic() - time.clock_gettime(time.CLOCK_BOOTTIME)
    )


TIMES = StartUp(process_start())
"""Of this process."""

_importing: threading.Thread | None = None


def begin_import() -> None:
    """Begin to import TensorFlow beside whatever else there is to do, but other imports."""
    global _importing
    gc.disable()
    _importing = threading.Thread(target=_import, name="import", daemon=True)
    _importing.start()


def end_import() -> None:
    """Return once TensorFlow is imported, or could not be: then importing it says why."""
    global _importing
    if _importing is None:
        return
    _importing.join()
    _importing = None
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)
    gc.enable()


def _import() -> None:
    with suppress(Exception), computing_once():
        execute_on_demand(_INTERFACE, *_SELDOM_READ)
        import keras  # noqa: F401
        import tensorflow

        # Imported later, each would take the place of that part.
        for name, module in _BESIDE_THE_INTERFACE.items():
            interface = vars(tensorflow).pop(name)
            try:
                import_module(module)
            finally:  # Another version of TensorFlow need not have the module.
                setattr(tensorflow, name, interface)
