"""Each attempt orders sets alike, or is refused, in processes that were really started anew.

Those of the other tests are forked from one process and so have one hash seed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rtj_api.names import ExitCode

from tests.unit.trainer.support import AttemptServer, Job, Kill, MakeJob, outcome_at

pytestmark = pytest.mark.unit

SETS = """
import keras
import tensorflow as tf

WORDS = {"red", "green", "blue", "black", "white", "pink", "grey", "cyan"}

def build_dataset():
    words = tf.constant(list(WORDS))
    numbers = tf.lookup.KeyValueTensorInitializer(words, tf.range(8.0))
    table = tf.lookup.StaticHashTable(numbers, -1.0)
    given = tf.data.Dataset.from_tensor_slices(sorted(WORDS) * 4).shuffle(32)
    return given.map(lambda word: (table.lookup(word)[None], 1.0)).batch(8)

def build_model():
    lookup = keras.layers.IntegerLookup(vocabulary=[hash(word) % 999 for word in WORDS])
    layers = {name: keras.layers.Dropout(0.1) for name in WORDS}
    inputs = keras.Input([1])
    hidden = keras.ops.cast(lookup(inputs), "float32")
    for name in sorted(WORDS):
        hidden = layers[name](hidden)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile("adam", "mse", jit_compile=False)
    return model
"""


@pytest.fixture(scope="module")
def other_seed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttemptServer]:
    server = AttemptServer(tmp_path_factory.mktemp("scratch"), hash_seed="1")
    yield server
    server.close()


def restarted_by(other: AttemptServer, job: Job) -> str:
    """Stop a job after step 3 and go on with another hash seed; return why it was refused."""
    assert job.run(Kill("step", 3, "SIGTERM")) == ExitCode.PREEMPTED, job.log[-3000:]
    job.server = other
    assert job.run() == ExitCode.PERMANENT, job.log[-3000:]
    assert job.final_record["reason"] == "FingerprintMismatch"
    return str(job.final_record["message"])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"module": "states", "modelFunction": "same_each_time"}, id="model"),
        pytest.param({"module": "states", "modelFunction": "several_optimizers"}, id="optimizers"),
        pytest.param({"datasetFunction": "shuffled"}, id="shuffled"),
        pytest.param(
            {"module": "own", "trainFunction": "towers", "datasetFunction": "shuffled"}, id="loop"
        ),
    ],
)
def test_of_a_job_without_sets_another_seed_changes_nothing_else(
    changes: dict[str, str], make_job: MakeJob, other_seed: AttemptServer
) -> None:
    message = restarted_by(other_seed, make_job(**changes))
    assert "these changed: the order of sets by PYTHONHASHSEED (" in message
    assert "seed: 0 -> 1). Resuming" in message


def test_of_a_job_with_sets_it_changes_the_pipeline_and_what_the_step_reads(
    make_job: MakeJob, other_seed: AttemptServer
) -> None:
    message = restarted_by(other_seed, make_job(SETS))
    assert "the order of sets by PYTHONHASHSEED (" in message
    assert "the tf.data pipeline" in message
    assert "the constants or tables that the training step reads, or which variables" in message


def test_the_command_gives_itself_a_seed_so_a_job_with_sets_goes_on(make_job: MakeJob) -> None:
    job = make_job(SETS)
    without = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    for attempt, epochs in enumerate((1, 2), start=1):
        config = {**job.config, "attempt": attempt, "epochs": epochs}
        environment = {**without, "RTJ_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, "-m", "rtj_trainer"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == ExitCode.COMPLETED, done.stdout[-3000:]
    whole = make_job(SETS, epochs=2)
    whole.run_to_end()
    assert outcome_at(job.directory) == whole.outcome()


def checked(options: list[str], seed: str | None, folder: Path) -> str:
    """Return what a new process says of its hash seed, which it sets too late as well."""
    script = folder / "script.py"
    script.write_text(
        f"import os, sys; sys.path[:0] = {sys.path!r}\n"
        "from rtj_trainer import errors, hash_seed\n"
        "os.environ['PYTHONHASHSEED'] = '42'\n"
        "try: hash_seed.check()\n"
        "except errors.PermanentError as error: print(error.reason, error.message)\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": seed or ""}
    command = [sys.executable, *options, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("options", "seed", "words"),
    [
        ([], None, "PYTHONHASHSEED was not set when Python was started"),
        ([], "random", "PYTHONHASHSEED was 'random' when Python was started"),
        (["-E"], "0", "PYTHONHASHSEED was '0', or was ignored by an option, when"),
    ],
)
def test_a_seed_that_python_draws_is_refused_with_how_to_choose_one(
    options: list[str], seed: str | None, words: str, tmp_path: Path
) -> None:
    said = checked(options, seed, tmp_path)
    assert said.startswith("InvalidSpec")
    assert words in said
    assert "`PYTHONHASHSEED=0 python train.py`" in said


@pytest.mark.parametrize("seed", ["0", "7"])
def test_a_seed_that_was_chosen_is_taken(seed: str, tmp_path: Path) -> None:
    assert checked([], seed, tmp_path) == ""


def test_a_script_without_a_seed_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import rtj_trainer\n"
        "with rtj_trainer.session('run', epochs=1): pass\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.PERMANENT
    assert "set it to the same number for each attempt" in done.stdout
    assert not (tmp_path / "run").exists()
