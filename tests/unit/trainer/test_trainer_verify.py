"""`python -m rtj_trainer verify`, as a user runs it: the last line and the exit code tell.

Some are processes as a user starts them. The others are forked where TensorFlow is imported
already, and so are their rehearsals.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rtj_trainer import verify
from rtj_trainer.__main__ import run_command
from rtj_trainer.preflight.rehearsal import Verdict

from tests.unit.trainer.support import AttemptServer, MakeJob

pytestmark = pytest.mark.unit

UNHURRIED = ["--time-budget-seconds", "600"]
"""A machine that stands still for some seconds changes no verdict."""
BUILDER = """
import os, sys, time
from pathlib import Path
import tensorflow as tf
from rtj_trainer.data import indexed

def build_dataset(size: int = 40, batch_size: int = 4):
    return tf.data.Dataset.range(size).shuffle(size).filter(lambda n: n % 3 > 0).batch(batch_size)

def with_generator():
    return tf.data.Dataset.from_generator(
        lambda: iter(range(9)), output_signature=tf.TensorSpec([], tf.int64)
    )

def another_in_each_process():
    path = Path(__file__).with_name("lines")
    path.write_text("\\n".join(str(os.getpid() * n) for n in range(9)))
    return tf.data.TextLineDataset(str(path))

def missing_file():
    return tf.data.TextLineDataset("/nowhere/at-all")

def crashing():
    os.abort()

def numbered():
    if "compare" in sys.argv:
        told = time.monotonic
        time.monotonic = lambda: told() + 10
    return indexed(40, 4)

def leaving():
    raise SystemExit(0)

def leaving_in_the_second_process():
    path = Path(__file__).with_name("first")
    if path.exists() and path.read_text() != str(os.getpid()):
        raise SystemExit(0)
    path.write_text(str(os.getpid()))
    return tf.data.Dataset.range(9)
"""


def run(*arguments: str) -> tuple[int, str, str]:
    """Return exit code, last line of the output, and what was written to standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "rtj_trainer", "verify", *UNHURRIED, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout.splitlines() or [""])[-1], done.stderr


Forked = Callable[..., tuple[int, str]]


@pytest.fixture
def forked(attempt_server: AttemptServer, tmp_path: Path) -> Forked:
    """Do as `run`, but return exit code and output of a process that is forked."""

    def run(*arguments: str) -> tuple[int, str]:
        request = {
            "arguments": ["verify", *UNHURRIED, *arguments],
            "log": str(tmp_path / "output"),
            "errors": str(tmp_path / "errors"),
        }
        code = attempt_server.run(request)
        return code, (tmp_path / "output").read_text()

    return run


@pytest.fixture
def builder(tmp_path: Path) -> str:
    path = tmp_path / "builder.py"
    path.write_text(BUILDER)
    return str(path)


def test_an_exact_pipeline_is_compared_across_the_end_of_an_epoch(builder: str) -> None:
    code, verdict, _ = run(builder, "--params", '{"size": 50, "batch_size": 2}')
    assert code == 0
    assert verdict.startswith("exact: position kept by iterator")
    assert "resumed at step 1, 8," in verdict
    assert verdict.endswith("across the end of an epoch")


def test_a_refusal_names_operation_line_and_what_to_write(builder: str, forked: Forked) -> None:
    code, verdict = forked(builder, "--function", "with_generator")
    assert code == 78
    assert verdict.startswith("refused: ")
    for words in ("from_generator", "(GeneratorDataset, builder.py:11)", "TFRecord files"):
        assert words in verdict


def test_what_no_rule_sees_is_found_by_the_fresh_process(builder: str, forked: Forked) -> None:
    code, verdict = forked(builder, "--function", "another_in_each_process")
    assert code == 78
    assert "begun anew in a fresh process: batch 1 was another than before" in verdict


def test_numbered_batches_are_built_only_where_they_begin(builder: str, forked: Forked) -> None:
    """Seven times and twice before, which are 90 s by the clock of the process that compares."""
    code, verdict = forked(builder, "--function", "numbered", "--time-budget-seconds", "60")
    assert code == 0
    assert verdict.endswith("step 1, 5, 9, 10, 15, 20; across the end of an epoch\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--function", "missing_file"], 1, ["failed: ", "/nowhere/at-all"]),
        (["--function", "crashing"], 1, ["failed: ", "died with signal 6"]),
        (["--function", "leaving"], 1, ["was to read the dataset ended", "call sys.exit?"]),
        (
            ["--function", "leaving_in_the_second_process"],
            *(1, ["was to read the dataset again ended with exit code 0", "call sys.exit?"]),
        ),
        (["--function", "build_datset"], 78, ["no function 'build_datset'", "build_dataset"]),
        (["--params", '{"sise": 3}'], 78, ["'sise'", "size: int = 40"]),
    ],
    ids=["data", "crash", "exit", "later exit", "function", "parameter"],
)
def test_a_dataset_that_gives_nothing_to_compare(
    arguments: list[str], code: int, words: list[str], builder: str, forked: Forked
) -> None:
    found, verdict = forked(builder, *arguments)
    assert found == code
    for word in words:
        assert word in verdict


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py"], "there is no file nowhere.py"),
        (["{builder}", "--params", "{size: 3}"], "'{size: 3}' is not JSON"),
        (["{builder}", "--params", "[3]"], "'[3]' is not a JSON object"),
        (["{builder}", "--time-budget-seconds", "soon"], "'soon' is not a number of seconds"),
        (["{builder}", "--seed", "-1"], "'-1' is no whole number from 0 to 2147483647"),
        (["{builder}", "--batch-function", "augment"], "give --dataset-cache, too"),
        (["{builder}", "--dataset-cache", '{"batchSize": 0}'], "spec.dataset.cache.batchSize: "),
        (["{builder}", "--dataset-cache", '{"batch": 2}'], "spec.dataset.cache has no batch"),
    ],
    ids=["file", "json", "list", "seconds", "seed", "batch", "cache", "field"],
)
def test_a_wrong_command_says_what_is_wrong(arguments: list[str], words: str, builder: str) -> None:
    code, verdict, error = run(*(a.replace("{builder}", builder) for a in arguments))
    assert (code, verdict) == (2, "")
    assert words in error


OTHERS = """
import keras
import tensorflow as tf

def build_dataset():
    return tf.data.Dataset.range(8).map(lambda n: ([tf.cast(n, tf.float32)], [1.0])).batch(2)

def build_model(units: int = 1):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(units)])
    model.compile("sgd", "mse")
    return model

class Drawing(keras.Sequential):
    def train_step(self, data):
        return {"drawn": tf.random.normal([])}

def draws():
    model = Drawing([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

class Counts(keras.callbacks.Callback):
    count = 0

    def on_epoch_end(self, epoch, logs=None):
        self.count += 1

def counts(model):
    return [Counts()]

def stops(model, patience: int):
    return [keras.callbacks.EarlyStopping("val_loss", patience=patience)]

def endless():
    return build_dataset().repeat()

def examples():
    return build_dataset().unbatch().repeat(10)

def noisy(batch, seed, scale: float):
    x, y = batch
    return x + scale * tf.random.stateless_normal(tf.shape(x), seed), y

def stateful(batch, seed):
    return batch[0] + tf.random.normal([]), batch[1]

def of_the_process(batch, seed):
    import os
    return batch[0] + os.getpid(), batch[1]
"""
CACHED = {"datasetFunction": "examples", "cache": {"batchSize": 4}}


def options(fields: dict[str, Any]) -> list[str]:
    """Return the options that ask for a job with these fields."""
    told = []
    for field, value in fields.items():
        kebab = re.sub("[A-Z]", lambda found: f"-{found[0].lower()}", field)
        option = {"dataset-function": "function", "cache": "dataset-cache"}.get(kebab, kebab)
        told += [f"--{option}", value if isinstance(value, str) else json.dumps(value)]
    return told


@pytest.mark.parametrize(
    "changes",
    [
        {"callbacksFunction": "counts"},
        {"modelFunction": "draws"},
        {"validationFunction": "endless"},
        {"callbacksFunction": "stops", "callbacksParams": {"patience": "two"}},
        {"modelFunction": "absent"},
        {"cache": {"batchSize": 4}},
        {**CACHED, "batchFunction": "stateful"},
    ],
    ids=["callback", "step", "validation", "parameter", "function", "cache", "batch"],
)
def test_what_a_job_refuses_of_other_functions_is_refused_in_the_same_words(
    changes: dict[str, Any], make_job: MakeJob, forked: Forked
) -> None:
    job = make_job(OTHERS, **changes)
    assert job.run() == 78
    told = [str(job.folder / "builder" / "builder.py"), *options(changes)]
    refusal = " ".join(job.final_record["message"].split())
    assert forked(*told) == (78, f"refused: {refusal}\n")


def test_a_whole_job_may_be_exact(tmp_path: Path, forked: Forked) -> None:
    path = tmp_path / "builder.py"
    path.write_text(OTHERS)
    job = {"callbacksFunction": "stops", "callbacksParams": {"patience": 2}}
    job["validationFunction"] = "build_dataset"
    code, verdict = forked(str(path), *options(job), "--seed", "7")
    assert code == 0
    assert verdict.startswith("exact: ")


def test_a_cached_dataset_is_asked_for_its_examples_and_its_batches(
    tmp_path: Path, forked: Forked
) -> None:
    path = tmp_path / "builder.py"
    path.write_text(OTHERS)
    job = {**CACHED, "batchFunction": "noisy", "batchParams": {"scale": 0.5}}
    code, verdict = forked(str(path), *options({**job, "modelFunction": "build_model"}))
    assert code == 0
    examples, _, batches = verdict.partition("; batchFunction: ")
    assert examples.startswith("exact: position kept by iterator")
    assert examples.endswith("within the one epoch in which a cache is written")
    assert batches.startswith("position kept by index")
    assert batches.endswith("across the end of an epoch\n")


def test_a_batch_function_that_gives_another_batch_in_another_process_is_found(
    tmp_path: Path, forked: Forked
) -> None:
    path = tmp_path / "builder.py"
    path.write_text(OTHERS)
    code, verdict = forked(str(path), *options({**CACHED, "batchFunction": "of_the_process"}))
    assert code == 78
    assert "what batchFunction makes of the cache cannot be resumed exactly: begun anew" in verdict


def test_a_refusal_by_the_rehearsal_names_what_is_not_proven(
    builder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = Verdict(78, "batch 3 was another", unproven=("NewDataset builder.py:7",))
    monkeypatch.setattr(verify, "rehearse", lambda *_: verdict)
    assert run_command(["verify", builder]) == 78
    assert "another (no test has proven NewDataset builder.py:7)" in capsys.readouterr().out


def test_what_could_not_be_compared_is_not_called_exact(
    builder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "rehearse", lambda *_: Verdict(0, "nothing read", proven=False))
    assert run_command(["verify", builder]) == 3
    assert capsys.readouterr().out.startswith("not proven: nothing read; give more")
