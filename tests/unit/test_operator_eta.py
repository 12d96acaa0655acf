"""When a job will be complete; and that no clock in status costs a write."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from rtj_api.heartbeat import Heartbeat, Position, TrainerPhase
from rtj_api.names import Condition, ExitCode, Reason
from rtj_api.time_spent import TrainerSeconds
from rtj_operator.cluster import JOBS
from rtj_operator.core.observed import Silence

from tests.model.world import World
from tests.unit.operator_looks import (
    NOW,
    after,
    beat,
    commit,
    decided,
    exited,
    final,
    look,
    pod,
    running,
    spec,
)

pytestmark = pytest.mark.unit

EPOCHS = spec(epochs=5, totalSteps=None)


@pytest.mark.parametrize(
    ("told", "wanted", "seconds"),
    [
        (beat(40, steps_per_second=0.5), spec(), 120),
        (beat(40, steps_per_second=0.7), spec(), 85),
        (
            beat(40, steps_per_second=2, position=Position(step=40, total_steps=60)),
            EPOCHS,
            10,
        ),
        (beat(100, steps_per_second=2), spec(), 0),
        (beat(40, steps_per_second=2), EPOCHS, None),
        (beat(40), spec(), None),
        (beat(40, steps_per_second=0), spec(), None),
        (beat(0, steps_per_second=1e-9), spec(totalSteps=10**12), None),
        (beat(40, steps_per_second=2, phase=TrainerPhase.RESTORING), spec(), None),
    ],
    ids=[
        "the steps that are left at their speed",
        "in whole seconds",
        "the trainer knows the length of an epoch",
        "nothing is left",
        "nobody knows the length of an epoch",
        "no speed yet",
        "no step of late",
        "not in this century",
        "what is restored is not trained",
    ],
)
def test_the_end_is_estimated_from(told: Heartbeat, wanted: Any, seconds: float | None) -> None:
    estimate = decided(
        look(pod(), status=running(), heartbeat=told, spec=wanted)
    ).status.estimated_completion_time
    assert estimate == (None if seconds is None else NOW + timedelta(seconds=seconds))


def test_between_attempts_there_is_no_estimate() -> None:
    seen = look(pod(), status=running(), heartbeat=beat(40, steps_per_second=2))
    trains = decided(seen)
    assert trains.status.estimated_completion_time
    gone = exited(75, final(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED))
    assert decided(after(seen, trains, gone), 5).status.estimated_completion_time is None


def test_looks_that_find_nothing_new_write_nothing_however_late_they_come() -> None:
    told = beat(40, steps_per_second=2, commit=commit(40))
    seen = look(pod(), status=running(), heartbeat=told)
    first = decided(seen)
    for later in range(1, 50):
        spent = TrainerSeconds(training=later, committed=0)
        same = told.model_copy(update={"spent": spent, "steps_per_second": 2 / later})
        again = after(seen, first, pod(), heartbeat=same, since_mirrored=100)
        if later == 1:
            first = decided(again, 1)  # It measures from now on.
            continue
        still = replace(again, silence=Silence(heartbeat=1, progress=later))
        assert decided(still, later).status == first.status


def test_progress_is_written_at_most_once_in_ten_seconds_however_often_it_is_looked_at(
    world: World,
) -> None:
    (trainer,) = world.trainers.values()
    world.train(trainer, 1)
    world.work()
    times = []
    for second in range(200):
        writes = len(world.api.writes)
        if second % 8 == 0:
            world.train(trainer, 1)
        world.advance(1)
        for _ in range(3):
            world.turn()
        mine = [kind for _, kind, _ in world.api.writes[writes:] if kind == JOBS.kind]
        times += [second] * len(mine)
    assert trainer.step >= 25
    assert 15 <= len(times) <= 20
    assert all(later - earlier >= 10 for earlier, later in pairwise(times))
    assert world.status().time
    kinds = {c.type for c in world.status().conditions if c.status == "True"}
    assert kinds == {Condition.RUNNING, Condition.PROGRESSING}
