"""A job that hangs once, in Python, in the middle of its training; its second attempt does not.

That it has hung is remembered on the claim. Outside of a trainer pod it never hangs, so that a run
without a cluster can serve as the reference.
"""

import ctypes
import signal
import time
from pathlib import Path

import keras
import tensorflow as tf

CLAIM = Path("/var/lib/rtj")
HANGS_AT_EPOCH = 3
A_BEAT_SECONDS = 15
"""Time enough for the heartbeat to tell of the last step before the hang."""


def build_dataset(examples: int, batch_size: int) -> tf.data.Dataset:
    """Return one epoch of `(x [batch, 8], y [batch, 1])`, in an order that differs by epoch."""

    def example(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.sin(tf.cast(i, tf.float32) * tf.range(1.0, 9.0))
        return x, tf.reduce_sum(x, keepdims=True)

    return tf.data.Dataset.range(examples).shuffle(examples).map(example).batch(batch_size)


def wait_for_a_peer_that_never_answers() -> None:
    """Hang as a blocking read does: the other threads run."""
    while True:
        time.sleep(60)


def call_a_library_that_never_returns() -> None:
    """Hang as a deadlock in native code does: no other thread of Python runs."""
    # SIGTERM would end a sleep, and a deadlock it does not.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    ctypes.PyDLL(None).sleep(86_400)


class HangsOnce(keras.metrics.MeanSquaredError):
    """A metric that hangs when it is reset at the beginning of an epoch."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how
        self._resets = 0

    def reset_state(self) -> None:
        """Hang, unless it was done before."""
        self._resets += 1
        marker = CLAIM / f"{self._how}-hung"
        if self._resets == HANGS_AT_EPOCH and CLAIM.is_dir() and not marker.exists():
            marker.touch()
            time.sleep(A_BEAT_SECONDS)
            HOW[self._how]()
        super().reset_state()


HOW = {"waits": wait_for_a_peer_that_never_answers, "stuck": call_a_library_that_never_returns}


def build_model(how: str) -> keras.Model:
    """Return a compiled model that hangs once, in one of the two ways."""
    hidden = [keras.layers.Dense(16, "tanh"), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input([8]), *hidden, keras.layers.Dense(1)])
    model.compile("adam", loss="mse", metrics=[HangsOnce(how)], jit_compile=False)
    return model
