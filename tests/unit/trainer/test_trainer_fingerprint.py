"""A job whose code, data or versions changed is refused, or warned, or goes on."""

import os
from pathlib import Path
from typing import Any

import pytest
from rtj_api.fingerprint import FingerprintPolicy, OnChange
from rtj_api.names import ExitCode
from rtj_trainer.commits.layout import JobDirectory
from rtj_trainer.data_files import look_at
from rtj_trainer.errors import PermanentError
from rtj_trainer.fingerprint import Fingerprint, check

from tests.unit.trainer.support import Job, Kill, MakeJob

pytestmark = pytest.mark.unit

BUILDER = """
import keras
import tensorflow as tf
from rtj_trainer.data import indexed

def build_dataset(path: str):
    data = tf.constant([float(line) for line in open(path)])
    return indexed(20, 4).map(lambda numbers: (tf.gather(data, numbers)[:, None] * 0, numbers))

def build_model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    return model
"""


@pytest.fixture
def stopped(make_job: MakeJob) -> tuple[Job, Path]:
    """A job that was stopped after 7 steps, and its data file."""
    job = make_job(BUILDER)
    data = job.folder / "data.txt"
    data.write_text("1\n" * 100)
    job.config["builder"]["datasetParams"] = {"path": str(data)}
    assert job.run(Kill("step", 7, "SIGTERM")) == ExitCode.PREEMPTED, job.log
    return job, data


def test_a_file_that_was_exchanged_is_refused_with_its_name_unless_that_is_allowed(
    stopped: tuple[Job, Path],
) -> None:
    job, data = stopped
    # Beyond what the builder reads from, so that nothing else changes.
    data.write_text("1\n" * 100 + "\n".join(["1"] * 3))
    source = job.folder / "builder" / "builder.py"
    source.write_text(source.read_text().replace("open(path)]", "open(path)][:100]"))
    assert job.run() == ExitCode.PERMANENT
    message = job.final_record["message"]
    assert "the builder's source (builder: " in message
    assert f"files that parameters name ({data}: 200 bytes" in message
    assert job.run(fingerprintPolicy={"files": "Warn", "source": "Ignore"}) == ExitCode.COMPLETED
    assert f"since the last commit these changed: files that parameters name ({data}" in job.log


def test_another_version_of_tensorflow_is_warned_of(stopped: tuple[Job, Path]) -> None:
    job, _ = stopped
    patch = job.folder / "version.py"
    patch.write_text("import tensorflow as tf\ntf.__version__ = '2.99.0'\n")
    job.patches = [patch]
    assert job.run(fingerprintPolicy={"versions": "Refuse"}) == ExitCode.PERMANENT
    assert "versions or machine (tensorflow: " in job.final_record["message"]
    assert job.run() == ExitCode.COMPLETED
    assert "-> 2.99.0" in job.log


def test_only_a_step_of_the_same_versions_is_compared() -> None:
    saved = Fingerprint({"step": "a", "seed": 1}, {"keras": "3.1"})
    newer = Fingerprint({"step": "b", "seed": 1}, {"keras": "3.2"})
    warning = check(saved, newer, FingerprintPolicy())
    assert warning
    assert "keras: 3.1 -> 3.2" in warning
    with pytest.raises(PermanentError, match="what the training step computes"):
        check(saved, Fingerprint(newer.identity, saved.environment), FingerprintPolicy())


def test_a_job_that_did_not_change_goes_on_without_a_word() -> None:
    same = Fingerprint({"seed": 1}, {"keras": "3.1"})
    assert check(same, same, FingerprintPolicy(versions=OnChange.REFUSE)) is None


def test_files_below_a_folder_are_found_but_not_what_trainers_write(tmp_path: Path) -> None:
    JobDirectory(tmp_path / "another").create()
    for folder in ("data/deep", "data/indices", "own", "another/commits", "indices"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "a").write_bytes(b"x")
    params = {"paths": [str(tmp_path)], "optimizer": "adam", "odd": "\0", "long": "x" * 5000}
    found = look_at(params, tmp_path / "own")
    data = tmp_path / "data"
    assert list(found.contents) == [str(data / "deep" / "a"), str(data / "indices" / "a")]
    assert not found.times


def test_bytes_in_the_middle_of_a_large_file_count_and_its_time_is_kept_apart(
    tmp_path: Path,
) -> None:
    path = tmp_path / "large"
    content = bytearray(10_000_000)
    path.write_bytes(content)
    before = look_at(str(path), tmp_path / "own")
    os.utime(path, ns=(0, 0))
    touched = look_at(str(path), tmp_path / "own")
    assert touched.contents == before.contents
    assert touched.times != before.times
    content[5_000_000] = 1
    path.write_bytes(content)
    assert look_at(str(path), tmp_path / "own").contents != before.contents


def test_very_many_files_are_one_entry(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).write_bytes(b"")
    before: dict[str, Any] = look_at(str(tmp_path), tmp_path / "own").contents
    assert list(before) == ["all"]
    (tmp_path / "7").write_bytes(b"x")
    assert look_at(str(tmp_path), tmp_path / "own").contents != before
