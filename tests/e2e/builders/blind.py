"""A job whose first attempt does not see, for a minute, that it has a successor, and goes astray.

It is the worst that a node which everybody believes dead can do: as with an NFS client that still
lists a folder as it was, no look at the volume shows it the newer fence; and as soon as its
successor has chosen where to start, what it commits is wrong. After the minute it sees again, or
later, if the machine was too busy for many commits.
"""

import itertools
import json
import os
import time
from pathlib import Path

import keras
import tensorflow as tf
from rtj_trainer.commits import retention, writer
from rtj_trainer.commits.layout import JobDirectory

BLIND_SECONDS = 60
BLIND_COMMITS = 50
CONFIG = json.loads(os.environ["RTJ_CONFIG"])
CLAIM = Path("/var/lib/rtj")
IN_A_POD = CLAIM.is_dir()
STALE = IN_A_POD and CONFIG["attempt"] == 1
SUCCESSOR = CLAIM / CONFIG["jobUid"] / "attempts" / "000002.start.json"
SLOW, FAST = 0.5, 0.08
EPOCH_SECONDS = (SLOW if CONFIG["attempt"] <= 2 else FAST) if IN_A_POD else 0.0
"""Time enough for all of it, in which the processor rests. The first two attempts are as fast as
each other, so that the stale one stays ahead."""

check_fence = writer.check_fence
commits_astray = itertools.count()


def _check_fence_blindly(job: JobDirectory, attempt: int) -> None:
    """Check it as a commit is made, once both the time and the commits are over."""
    if not SUCCESSOR.exists():
        return
    over = time.time() - SUCCESSOR.stat().st_ctime > BLIND_SECONDS
    if next(commits_astray) >= BLIND_COMMITS and over:
        check_fence(job, attempt)


if STALE:
    writer.check_fence = _check_fence_blindly
    retention.check_fence = lambda *_: None  # A commit that sees the fence ends it before.


def build_dataset(examples: int, batch_size: int) -> tf.data.Dataset:
    """Return one epoch of `(x [batch, 8], y [batch, 1])`, in an order that differs by epoch."""

    def example(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.sin(tf.cast(i, tf.float32) * tf.range(1.0, 9.0))
        return x, tf.reduce_sum(x, keepdims=True)

    return tf.data.Dataset.range(examples).shuffle(examples).map(example).batch(batch_size)


class Astray(keras.metrics.MeanSquaredError):
    """A metric that spoils a stale attempt's weights at the beginning of an epoch."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self._weights = model.trainable_variables

    def reset_state(self) -> None:
        """Wait, and spoil what a stale attempt trained."""
        time.sleep(EPOCH_SECONDS)
        if STALE and SUCCESSOR.exists():
            for variable in self._weights:
                variable.assign_add(tf.ones_like(variable))
        super().reset_state()


def build_model() -> keras.Model:
    """Return a small compiled model with dropout."""
    hidden = [keras.layers.Dense(16, "tanh"), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input([8]), *hidden, keras.layers.Dense(1)])
    model.compile("adam", loss="mse", metrics=[Astray(model)], jit_compile=False)
    return model
