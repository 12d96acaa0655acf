"""`checkpoint.auto`: commits cost at most their share, and a kill loses no more than it must."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from rtj_api.heartbeat import CommitInterval, Heartbeat, TrainerPhase
from rtj_trainer import interval
from rtj_trainer.heartbeat import Heart
from rtj_trainer.interval import SHORTEST_SECONDS, AutoInterval

from tests.unit.trainer.support import Job, MakeJob
from tests.unit.trainer.test_async_commits import hold, steps_of

pytestmark = pytest.mark.unit


class Volume:
    """What commits cost on it, and what steps cost without them, in seconds."""

    def __init__(self, step: float, pause: float, writing: float, slowdown: float = 0.0) -> None:
        self.step, self.pause, self.writing, self.slowdown = step, pause, writing, slowdown


class Training:
    """Steps and commits by a clock of its own, paced by an AutoInterval."""

    def __init__(self, percent: int) -> None:
        self.auto = AutoInterval(percent / 100)
        self.now, self.steps, self.begun = 0.0, 0, [0.0]
        self._writes_until: float | None = None
        self.auto.stepped(30.0, writing=False)  # the first step, which compiles

    def go_on(self, seconds: float, volume: Volume, noise: Callable[[int], float]) -> float:
        """Train for so long; return the overhead, as a share of the time without commits."""
        until, useful, before = self.now + seconds, 0.0, self.now
        while self.now < until:
            writing = self._writes_until is not None
            usual = volume.step * noise(self.steps)
            took = usual * (1 + volume.slowdown) if writing else usual
            self.now, self.steps, useful = self.now + took, self.steps + 1, useful + usual
            self.auto.stepped(took, writing)
            if self._writes_until is not None and self.now >= self._writes_until:
                self._writes_until = None
                self.auto.wrote(volume.pause, volume.writing)
            if self._writes_until is None and self.now - self.begun[-1] >= self.auto.seconds:
                self.begun.append(self.now)
                self.now += volume.pause
                self._writes_until = self.now + volume.writing
        return (self.now - before) / useful - 1


def even(step: int) -> float:
    return 1.0


def uneven(step: int) -> float:
    return 2.5 if step % 7 == 3 else 0.75


@pytest.mark.parametrize("noise", [even, uneven])
@pytest.mark.parametrize(
    ("volume", "percent", "seconds"),
    [
        (Volume(0.1, 0.5, 2.0), 3, 0.5 + 0.5 / 0.03),
        (Volume(0.1, 0.0, 5.0, slowdown=0.25), 5, 1.0 + 1.0 / 0.05),
        (Volume(0.5, 1.0, 20.0, slowdown=0.1), 1, 2.8 + 2.8 / 0.01),
        (Volume(0.1, 0.001, 0.01), 3, SHORTEST_SECONDS),
        (Volume(0.1, 0.001, 45.0), 3, 45.0),
    ],
    ids=["a pause", "a slowdown", "both", "hardly anything", "written for long"],
)
def test_the_interval_is_the_shortest_within_the_bound(
    volume: Volume, percent: int, seconds: float, noise: Any
) -> None:
    training = Training(percent)
    overhead = training.go_on(6_000, volume, noise)
    assert overhead <= percent / 100 * (1.02 if noise is even else 1.15)
    assert training.auto.seconds == pytest.approx(seconds, rel=0.12)


def test_it_follows_a_volume_that_becomes_slower_and_faster() -> None:
    training = Training(3)
    fast, slow = Volume(0.1, 0.3, 1.0), Volume(0.1, 3.0, 30.0)
    training.go_on(500, fast, even)
    assert training.auto.seconds < 15
    assert training.go_on(5_000, slow, even) < 0.032
    assert training.auto.seconds > 100
    training.go_on(500, fast, even)
    assert training.auto.seconds < 15


def test_steps_that_become_slower_are_not_taken_for_the_cost_of_commits() -> None:
    training = Training(3)
    training.go_on(2_000, Volume(0.1, 0.2, 5.0), even)
    training.go_on(2_000, Volume(0.4, 0.2, 5.0), even)
    assert training.auto.seconds == SHORTEST_SECONDS


def test_the_heartbeat_says_the_interval_and_why() -> None:
    heart = Heart(Heartbeat(attempt=1, phase=TrainerPhase.TRAINING))
    auto = AutoInterval(0.03)
    auto.wrote(0.6, 2.0)
    heart.commits_every(CommitInterval(seconds=auto.seconds, message=auto.message))
    told = heart._current().commit_interval
    assert told
    assert told.seconds == pytest.approx(20.6)
    assert "a commit stops training for 0.6 s" in told.message
    assert "allowed are 3%" in told.message


SLOW_VOLUME = """
import time
from rtj_trainer import batches, interval, state
from rtj_trainer.committer import Committer
from rtj_trainer.position.streams import IndexPosition
interval.SHORTEST_SECONDS = 0.1
count, begin, write = batches.count_examples, Committer.begin, state.Snapshot.write
first, paused = None, 0.0

def counted(element):
    global first
    first = first or time.monotonic()
    time.sleep(0.004)
    return count(element)

def slow_begin(self, progress, complete=False):
    global paused
    began = time.monotonic()
    if not complete:
        print("overhead", paused / (began - first - paused))
    begin(self, progress, complete)
    paused += time.monotonic() - began

def slow_save(self, folder):
    time.sleep(0.04)

def slow_write(self, folder):
    time.sleep(0.05)
    return write(self, folder)

batches.count_examples, Committer.begin = counted, slow_begin
IndexPosition.save, state.Snapshot.write = slow_save, slow_write
"""


def slow_job(make_job: MakeJob, **checkpoint: Any) -> Job:
    job = make_job(
        datasetFunction="by_index",
        modelFunction="small_model",
        epochs=40,
        checkpoint={"claimName": "claim", **checkpoint},
    )
    path = job.folder / "slow.py"
    path.write_text(SLOW_VOLUME)
    job.patches = [path]
    return job


def overhead_of(job: Job) -> float:
    """Return the share of the training until the last commit, the final one left out.

    The training after a commit pays for it, so that last one is not paid for yet.
    """
    return float(re.findall(r"^overhead (\S+)$", job.log, re.MULTILINE)[-1])


def test_on_a_slow_volume_the_overhead_stays_within_the_bound(make_job: MakeJob) -> None:
    job = slow_job(make_job, auto={"maxOverheadPercent": 5})
    job.run_to_end()
    assert "a commit every" in job.log
    assert overhead_of(job) <= 0.05
    often = slow_job(make_job, everySteps=10)
    often.run_to_end()
    assert overhead_of(often) > overhead_of(job), "or nothing is proven"
    assert job.outcome() == often.outcome()


def test_a_write_that_does_not_end_is_told_of(make_job: MakeJob) -> None:
    # How many follow depends on how fast they are written; the first must stay.
    checkpoint = {"claimName": "claim", "auto": {}, "keep": 100}
    job = make_job(datasetFunction="by_index", modelFunction="small_model", checkpoint=checkpoint)
    clock = (
        "from rtj_trainer import pace\n"
        "class Clock:\n"
        "    @staticmethod\n"
        "    def monotonic():\n"
        "        return 4.0 * steps\n"
        "pace.time = Clock\n"
    )
    hold(job, {3: 20}, clock)
    job.run_to_end()
    assert "commit at step 11 was put off: that of step 3 is still being written" in job.log
    assert job.log.count("was put off") == 1
    assert steps_of(job)[0] == 3
    assert interval.PATIENCE == 3
