"""The programs of docs/guide.md train, survive a kill, and leave the model that they promise."""

import re
import runpy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml
from rtj_api.names import ExitCode
from rtj_api.spec import JobSpec
from rtj_trainer.commits.layout import JobDirectory

from tests.unit.trainer.support import REPOSITORY, Job, Kill, MakeJob, outcome_at

pytestmark = pytest.mark.unit

GUIDE = (REPOSITORY / "docs" / "guide.md").read_text()
SCRIPT, BUILDER, SESSION, FROM_COMMIT = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)

MANIFEST = GUIDE.split("```yaml\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "points.npz"
    x = np.random.default_rng(1).normal(size=(400, 4)).astype("float32")
    np.savez(path, x=x, y=x.sum(axis=1, keepdims=True))
    return path


def spec() -> JobSpec:
    return JobSpec.model_validate(yaml.safe_load(MANIFEST)["spec"])


def job_of(make_job: MakeJob, points: Path) -> Job:
    """Make the job of the guide, with its files elsewhere and fewer epochs."""
    shown = spec().builder
    fields: dict[str, Any] = {
        "datasetParams": {**shown.dataset_params, "path": str(points)},
        "validationFunction": shown.validation_function,
        "validationParams": {"path": str(points)},
        "modelParams": shown.model_params,
        "callbacksFunction": shown.callbacks_function,
    }
    job = make_job(BUILDER, **fields)
    save_to = job.folder / "volume" / "models" / "points.keras"
    assert shown.callbacks_params.keys() == {"save_to"}
    job.config["builder"]["callbacksParams"] = {"save_to": str(save_to)}
    return job


def saved(job: Job) -> list[np.ndarray]:
    model = keras.saving.load_model(job.folder / "volume" / "models" / "points.keras")
    return list(model.get_weights())


def names_of(source: str, folder: Path) -> dict[str, Any]:
    """Run a program of the guide, and return what it defines."""
    path = folder / "program.py"
    path.write_text(source)
    return runpy.run_path(str(path))


def test_a_job_that_is_killed_saves_the_model_that_one_without_a_kill_saves(
    make_job: MakeJob, points: Path
) -> None:
    whole, killed = job_of(make_job, points), job_of(make_job, points)
    whole.run_to_end()
    killed.run_to_end(Kill("step", 13), Kill("train-end"))
    assert killed.outcome() == whole.outcome()
    for one, other in zip(saved(killed), saved(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_commit_gives_the_model_that_the_callback_saved(
    make_job: MakeJob, points: Path, tmp_path: Path
) -> None:
    job = job_of(make_job, points)
    job.run_to_end()
    commit = job.directory.commit(job.directory.commit_ids()[-1])
    fresh = names_of(BUILDER, tmp_path)["build_model"](**spec().builder.model_params)
    model = names_of(FROM_COMMIT, tmp_path)["model_of"](commit, fresh)
    for one, other in zip(model.get_weights(), saved(job), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_script_with_a_session_goes_on_and_saves_its_model(
    make_job: MakeJob, points: Path
) -> None:
    outcomes, weights = [], []
    for kills in ([], [Kill("retention")]):  # The commit of step 100 is durable.
        job = make_job()
        (job.folder / "builder.py").write_text(BUILDER)
        beside = f"import sys\nsys.path.insert(0, {str(job.folder)!r})\n"  # As Python does.
        (job.folder / "script.py").write_text(beside + SESSION)
        (job.folder / "points.npz").write_bytes(points.read_bytes())
        for kill in kills:
            assert run(job, kill) == -9, job.log[-3000:]
        assert run(job) == ExitCode.COMPLETED, job.log[-3000:]
        assert (job.starts[-1] > 0) is bool(kills)
        outcomes.append(outcome_at(JobDirectory(job.folder / "runs" / "points" / "local")))
        weights.append(keras.saving.load_model(job.folder / "points.keras").get_weights())
    assert outcomes[0] == outcomes[1]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def run(job: Job, kill: Kill | None = None) -> int:
    return job.server.run(
        {
            "log": str(job.folder / "log"),
            "kill": kill.__dict__ if kill else None,
            "script": str(job.folder / "script.py"),
            "folder": str(job.folder),
            "env": {},
        }
    )


def test_the_script_that_is_moved_trains_and_saves(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "points.npz").write_bytes(points.read_bytes())
    monkeypatch.chdir(tmp_path)
    names_of(SCRIPT.replace("epochs=20", "epochs=1"), tmp_path)
    assert (tmp_path / "points.keras").exists()
