"""The builder beside it, with a rest after each epoch, in which the processor is free.

A job must last until something was done to it, and should not keep a core busy until then: its
first attempt rests long. Nothing is done to the next ones, or to a run without a cluster.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import keras
from builder import build_dataset, build_model

__all__ = ["build_callbacks", "build_dataset", "build_model"]

IN_A_POD = Path("/var/lib/rtj").is_dir()
LONG, SHORT = 0.5, 0.1
ATTEMPT = json.loads(os.environ["RTJ_CONFIG"])["attempt"]
REST_SECONDS = (LONG if ATTEMPT == 1 else SHORT) if IN_A_POD else 0.0


class Rest(keras.callbacks.Callback):
    """Rests at the end of each epoch."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Wait."""
        time.sleep(REST_SECONDS)


def build_callbacks(model: Any) -> list[keras.callbacks.Callback]:
    """Return the callback that rests."""
    return [Rest()]
