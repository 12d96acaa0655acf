"""Each second of an attempt is counted once, under what it was spent on."""

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rtj_api.heartbeat import Heartbeat, TrainerPhase
from rtj_api.names import ExitCode
from rtj_api.time_spent import TrainerSeconds
from rtj_trainer.heartbeat import Heart
from rtj_trainer.loop import TrainingLoop
from rtj_trainer.progress import Progress
from rtj_trainer.signals import StopRequest
from rtj_trainer.stopwatch import Speed, Spending, Stopwatch

from tests.unit.trainer.support import Job, Kill, MakeJob

pytestmark = pytest.mark.unit


class Clock:
    """A clock that is set by hand."""

    time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_an_attempt_is_told_by_kind_and_only_what_is_in_a_commit_is_committed() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    clock.time += 5
    watch.enter_phase(TrainerPhase.RESTORING)
    clock.time += 7
    watch.enter(Spending.REPLAYING)
    clock.time += 11
    watch.enter_phase(TrainerPhase.TRAINING)
    clock.time += 13
    watch.enter_phase(TrainerPhase.SAVING)
    clock.time += 2
    watch.taken()
    watch.enter_phase(TrainerPhase.TRAINING)
    clock.time += 3
    watch.committed()
    watch.enter_phase(TrainerPhase.FINISHED)
    clock.time += 100
    assert watch.read() == TrainerSeconds(
        starting=5, restoring=7, replaying=11, training=16, saving=2, committed=13
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(list(Spending)), st.floats(0, 1e4), st.booleans())))
def test_the_kinds_add_up_however_they_follow_each_other(
    story: list[tuple[Spending, float, bool]],
) -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    for kind, seconds, commits in story:
        watch.enter(kind)
        clock.time += seconds
        if commits:
            watch.taken()
            watch.committed()
    spent = watch.read()
    assert spent.total == pytest.approx(clock.time - Clock.time, abs=0.01)
    assert spent.committed <= spent.training


class TestSpeed:
    """Steps per second, as the heartbeat tells."""

    def test_the_first_step_which_compiles_is_left_out(self) -> None:
        speed = Speed(5, step=40)
        assert speed.at(0, 40) is None
        assert speed.at(60, 41) is None
        assert speed.at(70, 61) == 2

    def test_it_counts_the_pauses_of_five_minutes(self) -> None:
        speed = Speed(5, step=0)
        for second in range(0, 301, 5):
            speed.at(second, 1 + second)
        assert speed.at(305, 301) == pytest.approx(300 / 305, abs=0.02)
        assert speed.at(600, 301) == pytest.approx(1 / 295, abs=0.01)

    def test_a_turn_right_after_a_beat_does_not_measure_an_instant(self) -> None:
        speed = Speed(5, step=0)
        speed.at(0, 1)
        assert speed.at(10, 11) == 1
        assert speed.at(10.001, 15) == 1


SHUFFLED_THEN_CACHED = """
import keras
import tensorflow as tf

def build_dataset():
    numbers = tf.data.Dataset.range(40).shuffle(40).cache()
    return numbers.map(lambda x: (tf.cast([x], tf.float32), tf.cast([x], tf.float32))).batch(4)

def build_model():
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    return model
"""


def spent_by(job: Job) -> TrainerSeconds:
    return TrainerSeconds.model_validate(job.final_record["spent"])


def test_the_last_word_of_a_trainer_tells_all_its_time(make_job: MakeJob) -> None:
    job = make_job(SHUFFLED_THEN_CACHED)
    assert job.run(Kill("step", 13, signal="SIGTERM")) == ExitCode.PREEMPTED
    first = spent_by(job)
    assert min(first.starting, first.training, first.saving) > 0
    assert first.committed == pytest.approx(first.training, abs=0.5), "its last step is in a commit"
    assert first.restoring == first.replaying == 0
    assert job.run() == ExitCode.COMPLETED
    assert "position strategy: replay" in job.log
    second = spent_by(job)
    assert min(second.restoring, second.replaying) > 0
    assert second.committed == second.training, "the final commit holds all of it"


class ReadError(Exception):
    """The data cannot be read."""


@pytest.mark.parametrize(
    ("replays", "phase"), [(True, TrainerPhase.RESTORING), (False, TrainerPhase.TRAINING)]
)
def test_reading_up_to_the_position_is_still_restoring(replays: bool, phase: TrainerPhase) -> None:
    """So the timeout of `hangPolicy` for restoring holds for it."""
    heart = Heart(Heartbeat(attempt=2, phase=TrainerPhase.RESTORING))
    told = []

    def read() -> None:
        told.append(heart._current().phase)
        raise ReadError

    loop = TrainingLoop(
        position=SimpleNamespace(replays=replays, next=read, strategy="replay"),  # type: ignore[arg-type]
        progress=Progress(step=5),
        epochs=SimpleNamespace(stopped=False),  # type: ignore[arg-type]
        ledger=None,  # type: ignore[arg-type]
        committer=SimpleNamespace(settle=lambda wait: None),  # type: ignore[arg-type]
        heart=heart,
        stop=StopRequest(),
    )
    with pytest.raises(ReadError), loop.running():
        list(loop.steps())
    assert told == [phase]
