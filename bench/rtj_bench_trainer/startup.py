"""Stage `startup`: from the start of the process to its first new step after a kill.

Ours is the trainer as its image starts it. The naive order is a script of plain TensorFlow with the
same dataset and model: it imports, builds, restores with tf.train.Checkpoint, traces and steps, one
after the other. Both are killed once they have taken that step, and started again from what they
had saved; the two take turns, so that a machine that is busy is busy for both.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import rtj_api
import rtj_trainer
from rtj_bench.say import say

from rtj_bench_trainer.figures import summary
from rtj_bench_trainer.process import attempt_of, spawn

KEYS = ("startup_s", "startup_naive_s")

BUILDER = """
import keras
import tensorflow as tf

def _example(number):
    image = tf.random.stateless_normal([784], tf.stack([number, 7]))
    return image, tf.cast(number % 10, tf.int32)

def build_dataset():
    return tf.data.Dataset.range(100_000).shuffle(10_000).map(_example).batch(64).prefetch(2)

def build_model():
    layers = [keras.layers.Dense(width, "relu") for width in (1024, 1024)]
    model = keras.Sequential([keras.Input([784]), *layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
    return model
"""
"""22 MB of variables: what a trainer of Dense layers typically has."""

NAIVE = """
import os, sys, time
last = began = float(os.environ["STARTED"])
parts = {}

def ended(part):
    global last
    now = time.monotonic()
    parts[part] = now - last
    last = now

import keras
import tensorflow as tf
ended("import")
import builder
keras.utils.set_random_seed(0)
iterator = iter(builder.build_dataset().repeat())
model = builder.build_model()
model.optimizer.build(model.trainable_variables)
checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, iterator=iterator)
ended("build")
if saved := tf.train.latest_checkpoint("."):
    checkpoint.restore(saved).expect_partial()
ended("restore")
step = tf.function(model.train_step)
batch = next(iterator)
step.get_concrete_function(batch)
ended("trace")
float(step(batch)["loss"])
ended("step")
text = ", ".join(f"{part} {seconds:.3f}" for part, seconds in parts.items())
print(f"first step {last - began:.3f} s after the start: {text}", flush=True)
for _ in range(20):
    step(next(iterator))
tf.train.CheckpointManager(checkpoint, ".", 1).save()
print("committed .", flush=True)
time.sleep(600)
"""


def measure(repeats: int, trainer: str) -> dict[str, Any]:
    """Return the medians of all parts in seconds, ours and the naive order's, and their spread.

    Args:
        repeats: Starts of each.
        trainer: Python of an environment that has what the image has and nothing else, since
            TensorFlow and Keras import what they find, whoever needs it.
    """
    with tempfile.TemporaryDirectory(prefix="rtj-startup-") as folder:
        root, sources = Path(folder) / "job", Path(folder) / "sources"
        root.mkdir()
        (root / "builder.py").write_text(BUILDER)
        (root / "naive.py").write_text(NAIVE)
        _compile_ours(trainer, sources)
        _ours(trainer, root, sources, 1, "committed ")
        _naive(trainer, root, "committed ")
        samples = []
        for number in range(repeats):
            ours = _ours(trainer, root, sources, number + 2, "first step ")
            naive = _naive(trainer, root, "first step ")
            say(f"startup {number + 1} of {repeats}: {ours['total']} s, naive {naive['total']} s")
            samples.append({"startup_s": ours, "startup_naive_s": naive})
    return summary(samples)


def _compile_ours(python: str, sources: Path) -> None:
    """Copy our packages and compile them, as the image has them and a checkout perhaps not."""
    for package in (rtj_api, rtj_trainer):
        source = Path(package.__path__[0])
        shutil.copytree(source, sources / source.name)
    subprocess.run([python, "-m", "compileall", "-q", sources], check=True)


def _ours(python: str, root: Path, sources: Path, attempt: int, until: str) -> dict[str, float]:
    checkpoint = {"claimName": "claim", "everySteps": 20}
    config = attempt_of(root, attempt, epochs=None, totalSteps=10**9, checkpoint=checkpoint)
    more = {**config, "PYTHONPATH": str(sources)}
    return _run(python, ["-m", "rtj_trainer"], root, more, until)


def _naive(python: str, root: Path, until: str) -> dict[str, float]:
    return _run(python, ["naive.py"], root, {}, until)


def _run(
    python: str, arguments: list[str], root: Path, more: dict[str, str], until: str
) -> dict[str, float]:
    """Run Python until it prints some text; return the parts of its start."""
    process = spawn(root, arguments, more, python)
    printed, parts = "", {}
    for line in process.stdout or ():
        printed += line
        if "first step " in line:
            parts = _parts(line)
        if until in line:
            break
    process.kill()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if until not in printed:
        raise RuntimeError(f"{arguments} ended before {until!r}:\n{printed[-2000:]}")
    return {**parts, "cpu": usage.ru_utime + usage.ru_stime}


def _parts(line: str) -> dict[str, float]:
    """Read `first step 4.100 s after the start: import 1.900, build 0.400, …`."""
    head, _, tail = line.partition("first step ")[2].partition(": ")
    named = (part.split() for part in tail.strip().split(", "))
    return {**{name: float(seconds) for name, seconds in named}, "total": float(head.split()[0])}
