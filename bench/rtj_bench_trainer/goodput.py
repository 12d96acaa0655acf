"""Stage `goodput`: the same job under the same kills, ours beside Keras's BackupAndRestore.

A job of about a minute stands for one of twenty: it is killed four times, at the same moments after
its beginning for both, and started again at once. The start of a process is as long as in the long
job, so it weighs twenty times as much here, for both. Both save every second or so.
"""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtj_bench.say import say

from rtj_bench_trainer.figures import summary
from rtj_bench_trainer.process import attempt_of, spawn

KEYS = ("goodput", "goodput_backup_and_restore", "goodput_wall_s", "goodput_lost_s")

EPOCHS = 4
STEPS = 600
"""Of each epoch."""
SAVE_EVERY = 50
KILLS = (0.2, 0.4, 0.6, 0.8)
"""When, as shares of the time that the job takes without them."""

BUILDER = f"""
import keras
import tensorflow as tf

def _example(number):
    image = tf.random.stateless_normal([784], tf.stack([number, 7]))
    return image, tf.cast(number % 10, tf.int32)

def build_dataset():
    numbers = tf.data.Dataset.range({STEPS} * 64).shuffle(10_000)
    return numbers.map(_example).batch(64).prefetch(2)

def build_model():
    layers = [keras.layers.Dense(1024, "relu") for _ in range(3)]
    model = keras.Sequential([keras.Input([784]), *layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
    return model
"""

FIT = f"""
import os, sys, time
import keras
import builder

class First(keras.callbacks.Callback):
    told = False
    def on_train_batch_end(self, batch, logs=None):
        if not self.told:
            self.told = True
            seconds = time.monotonic() - float(os.environ["STARTED"])
            print(f"first step {{seconds:.3f}} s after the start:", flush=True)

callbacks = [First()]
if sys.argv[1:]:
    callbacks.append(keras.callbacks.BackupAndRestore(sys.argv[1], save_freq={SAVE_EVERY}))
keras.utils.set_random_seed(0)
model = builder.build_model()
model.fit(builder.build_dataset(), epochs={EPOCHS}, verbose=0, callbacks=callbacks)
"""


@dataclass
class Run:
    """How a job went."""

    wall: float = 0.0
    """Seconds until it was complete."""
    starts: list[float] = field(default_factory=list)
    """Of each process that got so far, the seconds until its first step."""


def measure(repeats: int) -> dict[str, Any]:
    """Return the useful shares of the time and what they come from, as medians and spread."""
    return summary([_repeat(number, repeats) for number in range(repeats)])


def _repeat(number: int, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="rtj-goodput-") as folder:
        root = Path(folder)
        (root / "builder.py").write_text(BUILDER)
        (root / "fit.py").write_text(FIT)
        calm = _run(root, lambda _: (["fit.py"], {}), ())
        useful = calm.wall - calm.starts[0]
        moments = [share * calm.wall for share in KILLS]
        runs = {
            "ours": _run(
                root, lambda attempt: (["-m", "rtj_trainer"], _config(root, attempt)), moments
            ),
            "backup_and_restore": _run(root, lambda _: (["fit.py", "backup"], {}), moments),
        }
    goodput = {name: useful / run.wall for name, run in runs.items()}
    lost = {name: run.wall - useful - sum(run.starts) for name, run in runs.items()}
    say(
        f"goodput {number + 1} of {repeats}: {goodput['ours']:.2f}, with BackupAndRestore "
        f"{goodput['backup_and_restore']:.2f}"
    )
    return {
        "goodput": goodput["ours"],
        "goodput_backup_and_restore": goodput["backup_and_restore"],
        "goodput_wall_s": {"calm": calm.wall, **{name: run.wall for name, run in runs.items()}},
        "goodput_lost_s": lost,
    }


def _config(root: Path, attempt: int) -> dict[str, str]:
    checkpoint = {"claimName": "claim", "everySteps": SAVE_EVERY}
    return attempt_of(root, attempt, epochs=EPOCHS, totalSteps=None, checkpoint=checkpoint)


def _run(root: Path, command: Any, kills: Sequence[float]) -> Run:
    """Run a job to its end, killed at these seconds after its beginning."""
    run, began = Run(), time.monotonic()
    for attempt, moment in enumerate([*kills, None], start=1):
        arguments, more = command(attempt)
        process, started = spawn(root, arguments, more), time.monotonic()
        try:
            left = None if moment is None else max(0.0, began + moment - started)
            printed, _ = process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, _ = process.communicate()
        if "first step " in printed:
            run.starts.append(float(printed.partition("first step ")[2].split()[0]))
        if process.returncode == 0:
            break
        if process.returncode > 0:
            raise RuntimeError(f"{arguments} ended with {process.returncode}:\n{printed[-2000:]}")
    run.wall = time.monotonic() - began
    return run
