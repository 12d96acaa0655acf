"""The state of a training is given back as a whole, or not at all."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rtj_trainer.callbacks import CallbackRunner
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.errors import PermanentError
from rtj_trainer.joining import Attempt
from rtj_trainer.progress import Progress
from rtj_trainer.seeding import seed_everything
from rtj_trainer.state import TrainingState

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _seeded() -> None:
    seed_everything(7)


def state_of(*values: float) -> tuple[TrainingState, list[Any]]:
    variables = [tf.Variable(value) for value in values]
    model: Any = type("Model", (), {"stop_training": False})()
    return TrainingState({"own": variables}, [], CallbackRunner([], model, {})), variables


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0], "has 'own/1', which is no variable here"),
        ([1.0, 2.0, 3.0], "does not have own/2"),
    ],
    ids=["fewer", "more"],
)
def test_a_commit_of_other_variables_is_not_restored(
    values: list[float], words: str, tmp_path: Path
) -> None:
    state_of(1.0, 2.0)[0].capture().write(tmp_path)
    state, _ = state_of(*values)
    with pytest.raises(ValueError, match=words):
        state.restore(tmp_path)


def test_what_is_undisturbed_changes_nothing_that_a_step_depends_on() -> None:
    state, (variable,) = state_of(1.0)
    before = state.capture().sha256()
    with state.undisturbed():
        variable.assign(2.0)
        tf.random.get_global_generator().normal([])
        random.random()  # noqa: S311
        np.random.normal()
    assert state.capture().sha256() == before


def test_variables_are_those_of_the_commit_again(tmp_path: Path) -> None:
    state, variables = state_of(1.0, 2.0)
    before = state.capture()
    before.write(tmp_path)
    for variable in variables:
        variable.assign(7.0)
    random.random()  # noqa: S311
    state.restore(tmp_path)
    assert [float(variable) for variable in variables] == [1.0, 2.0]
    assert state.capture().equals(before)


def test_an_attempt_does_not_go_on_from_a_state_with_another_hash_than_the_commit_tells(
    tmp_path: Path,
) -> None:
    job, commit_id = JobDirectory(tmp_path), CommitId(5, 1)
    job.commit(commit_id).mkdir(parents=True)
    state, _ = state_of(1.0)
    state.capture().write(job.commit(commit_id))
    choice = SimpleNamespace(commit_id=commit_id, manifest=SimpleNamespace(state_sha256="5" * 64))
    attempt: Any = SimpleNamespace(job=job, choice=choice)
    position = SimpleNamespace(restore=lambda folder: None)
    with pytest.raises(PermanentError, match=r"holds state 555.* but restoring it gave"):
        Attempt._restore(attempt, state, position, Progress())
