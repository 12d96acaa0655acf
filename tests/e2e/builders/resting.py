"""The builder beside it, with a rest after each epoch, in which the processor is free.

A job must last until something was done to it, and should not keep a core busy until then.
"""

import time
from typing import Any

import keras
from builder import build_dataset, build_model

__all__ = ["build_callbacks", "build_dataset", "build_model"]

REST_SECONDS = 0.2


class Rest(keras.callbacks.Callback):
    """Rests at the end of each epoch."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Wait."""
        time.sleep(REST_SECONDS)


def build_callbacks(model: Any) -> list[keras.callbacks.Callback]:
    """Return the callback that rests."""
    return [Rest()]
