"""Notes when epochs end: what is between two ends is the time of an epoch, everything included."""

import itertools
import time
from typing import Any

import keras


class EpochEnds(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes the end of each epoch; has no hooks for batches, whose calls cost time themselves."""

    def __init__(self, ends: list[float]) -> None:
        super().__init__()
        self._ends = ends

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note the time."""
        self._ends.append(time.perf_counter())

    def get_state(self) -> None:
        """Keep nothing."""

    def set_state(self, state: None) -> None:
        """Keep nothing."""


def seconds_per_step(ends: list[float], steps: int) -> list[float]:
    """Return the time of a step in each epoch but the first.

    Args:
        ends: Of all epochs.
        steps: In an epoch.
    """
    return [(later - earlier) / steps for earlier, later in itertools.pairwise(ends)]
