"""A commit is written beside training, and holds what was true when it was taken.

Most jobs here hold the writing of a commit back until the steps after it were taken.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rtj_api.checkpoint import CheckpointPolicy, KeepBest
from rtj_api.heartbeat import BestCommit, CommitInterval, CommitRef, Heartbeat, TrainerPhase
from rtj_api.names import ExitCode
from rtj_trainer.commits import attempts
from rtj_trainer.commits.attempts import StartRecord
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import Written, read_manifest
from rtj_trainer.committer import CommitFailedError, Committer
from rtj_trainer.cutting import Cutting
from rtj_trainer.data import IndexedSource
from rtj_trainer.heartbeat import Heart
from rtj_trainer.ledger import LedgerWriter
from rtj_trainer.position.streams import IndexPosition
from rtj_trainer.progress import Progress
from rtj_trainer.signals import StopRequest
from rtj_trainer.stopwatch import Stopwatch

from tests.unit.trainer.support import Job, Kill, MakeJob, Whole

pytestmark = pytest.mark.unit

HELD = """
import threading
from rtj_trainer import state
from rtj_trainer.ledger import LedgerWriter

steps, stepped = 0, threading.Condition()
append, write = LedgerWriter.append, state.Snapshot.write

def count(self, entry):
    global steps
    append(self, entry)
    with stepped:
        steps = entry.step
        stepped.notify_all()

def held(self, folder):
    until = UNTIL.get(int(folder.name.split("-")[1]), 0)
    with stepped:
        assert stepped.wait_for(lambda: steps >= until, 120)
    written = write(self, folder)
    after()
    return written

def after():
    pass

LedgerWriter.append, state.Snapshot.write = count, held
"""


def hold(job: Job, until: dict[int, int], more: str = "") -> None:
    """Let the commit at a step be written only after another step was taken."""
    path = job.folder / "held.py"
    path.write_text(f"UNTIL = {until}\n{HELD}\n{more}")
    job.patches = [path]


def steps_of(job: Job) -> list[int]:
    return [found.step for found in job.directory.commit_ids()]


def test_steps_taken_while_a_commit_is_written_are_not_in_it(
    make_job: MakeJob, whole: Whole
) -> None:
    job = make_job(datasetFunction="shuffled")
    hold(job, {5: 9, 10: 14})
    job.run_to_end(Kill("retention", 2, before=True))
    assert "going on from commit 000000000010-000001" in job.log
    assert job.outcome() == whole("shuffled").outcome()


@pytest.mark.parametrize("moment", ["state-written", "rename"])
def test_a_trainer_killed_while_a_commit_is_written_goes_on_from_the_one_before(
    moment: str, make_job: MakeJob, whole: Whole
) -> None:
    job = make_job(datasetFunction="shuffled")
    hold(job, {10: 14})
    job.run_to_end(Kill(moment, 2, before=moment == "rename"))
    assert "going on from commit 000000000005-000001" in job.log
    assert not job.directory.temporary_folders()
    assert job.outcome() == whole("shuffled").outcome()


def test_a_request_to_stop_waits_for_the_commit_that_is_being_written(
    make_job: MakeJob, whole: Whole
) -> None:
    job = make_job(datasetFunction="shuffled")
    hold(job, {5: 8})
    assert job.run(Kill("step", 8, "SIGTERM")) == ExitCode.PREEMPTED
    assert steps_of(job) == [5, 8]
    assert job.last_manifest.parent == "000000000005-000001"
    job.run_to_end()
    assert job.outcome() == whole("shuffled").outcome()


def test_a_request_to_stop_makes_no_second_commit_of_a_step(make_job: MakeJob) -> None:
    job = make_job(datasetFunction="by_index", modelFunction="small_model")
    assert job.run(Kill("step", 10, "SIGTERM")) == ExitCode.PREEMPTED
    assert steps_of(job) == [5, 10]


def test_a_slow_volume_delays_commits_by_seconds_and_not_training(make_job: MakeJob) -> None:
    job = make_job(
        datasetFunction="by_index",
        modelFunction="small_model",
        checkpoint={"claimName": "claim", "everySeconds": 10, "keep": 9},
    )
    clock = (
        "from rtj_trainer import pace\n"
        "class Clock:\n"
        "    @staticmethod\n"
        "    def monotonic():\n"
        "        return 3.0 * steps\n"
        "pace.time = Clock\n"
    )
    hold(job, {4: 20}, clock)
    job.run_to_end()
    assert "commit at step 8 was put off: that of step 4 is still being written" in job.log
    assert job.log.count("that of step 4 is still being written") == 1
    steps = steps_of(job)
    assert steps[0] == 4
    assert steps[1] >= 20
    assert steps[-1] == 39


def test_commits_by_steps_are_made_at_just_these_steps_and_milestones_stay(
    make_job: MakeJob,
) -> None:
    job = make_job(
        datasetFunction="by_index",
        modelFunction="small_model",
        checkpoint={"claimName": "claim", "everySteps": 5, "keep": 2, "keepEverySteps": 10},
    )
    hold(job, {5: 10, 10: 15})
    job.run_to_end()
    assert steps_of(job) == [10, 20, 30, 35, 39]


def test_a_trainer_that_was_superseded_while_it_wrote_commits_nothing(make_job: MakeJob) -> None:
    job = make_job(datasetFunction="by_index", modelFunction="small_model")
    fence = str(job.directory.fence(2))
    hold(job, {5: 8}, f"def after():\n    open({fence!r}, 'w').close()\n")
    assert job.run() == ExitCode.SUPERSEDED
    assert steps_of(job) == []
    assert "attempt 2 has started" in job.final_record["message"]
    assert job.final_record["newestAttempt"] == 2


def test_a_program_that_fails_does_not_take_the_commit_with_it(make_job: MakeJob) -> None:
    job = make_job(datasetFunction="by_index", modelFunction="small_model")
    fails = (
        "from rtj_trainer import batches\n"
        "failed = threading.Event()\n"
        "count_examples = batches.count_examples\n"
        "def failing(element):\n"
        "    if steps == 7:\n"
        "        failed.set()\n"
        "        raise RuntimeError('my program is wrong')\n"
        "    return count_examples(element)\n"
        "batches.count_examples = failing\n"
        "def after():\n"
        "    assert failed.wait(120)\n"
    )
    hold(job, {}, fails)
    assert job.run() == ExitCode.USER_ERROR
    assert "my program is wrong" in job.final_record["message"]
    assert steps_of(job) == [5]


class Weights:
    """A state of one file, whose writing waits to be allowed, and may fail."""

    def __init__(self) -> None:
        self.value = 0
        self.allowed = threading.Event()
        self.error: OSError | None = None

    def capture(self) -> "TakenWeights":
        return TakenWeights(self, self.value)


class TakenWeights:
    """What they were."""

    def __init__(self, weights: Weights, value: int) -> None:
        self._weights, self._value = weights, value

    def write(self, folder: Path) -> Written:
        assert self._weights.allowed.wait(60)
        if self._weights.error:
            raise self._weights.error
        (folder / "state").write_text(json.dumps(self._value))
        return Written(f"{self._value:064x}", {})


class Told:
    """What a listener was told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def taken(self) -> None:
        self.told.append("taken")

    def committed(self, commit: CommitRef, commits: list[str]) -> None:
        self.told.append((commit.id, commits))

    def kept(self, best: list[BestCommit]) -> None:
        if best:
            self.told.append([found.id for found in best])

    def commits_every(self, interval: CommitInterval) -> None:
        self.told.append(interval.seconds)


@pytest.fixture
def committer(tmp_path: Path) -> Iterator[Committer]:
    job = JobDirectory(tmp_path / "uid")
    job.create()
    attempts.create_fence(job, 1, "pod")
    attempts.write_start_record(job, StartRecord(1, None))
    source = IndexedSource(Cutting.even(10, 1, False), False)
    made = Committer(
        job=job,
        attempt=1,
        policy=CheckpointPolicy(claim_name="claim", every_steps=5),
        state=Weights(),
        position=IndexPosition(lambda step: None, source, 0),
        ledger=LedgerWriter(job.ledger_segment(1)),
        constant={"strategy": "index", "fingerprint": {}, "environment": {}, "target": {}},
        last=None,
        stop=StopRequest(),
        listener=Told(),
    )
    yield made
    made.state.allowed.set()
    made.settle(wait=True)


def test_a_commit_is_told_of_once_it_is_durable(committer: Committer) -> None:
    committer.begin(Progress(step=5, epoch=0))
    committer.settle()
    assert committer.listener.told == ["taken"]
    assert not committer.covers(5)
    committer.state.allowed.set()
    committer.settle(wait=True)
    assert committer.listener.told == ["taken", ("000000000005-000001", ["000000000005-000001"])]
    assert committer.job.commit_ids() == [CommitId(5, 1)]
    assert committer.covers(5)


def test_status_is_told_what_a_commit_left_on_the_volume(committer: Committer) -> None:
    committer.state.allowed.set()
    for step in (5, 10, 15, 20):
        committer.commit(Progress(step=step, epoch=0))
    assert committer.listener.told[-1] == (
        "000000000020-000001",
        [f"{step:012d}-000001" for step in (20, 15, 10)],
    )


@pytest.mark.parametrize("listing", [1, 2, 3])
def test_a_commit_is_durable_although_the_folder_cannot_be_listed_once(
    listing: int, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(1, 10))
    listed = JobDirectory.commit_ids

    def failing(job: JobDirectory) -> list[CommitId]:
        if next(calls) == listing:
            raise OSError(5, "Input/output error")
        return listed(job)

    committer.state.allowed.set()
    monkeypatch.setattr(JobDirectory, "commit_ids", failing)
    committer.commit(Progress(step=5, epoch=0))
    assert committer.covers(5)
    assert committer.listener.told[-1] == ("000000000005-000001", ["000000000005-000001"])


def test_once_asked_to_stop_no_commit_takes_the_place_of_another(committer: Committer) -> None:
    committer.state.allowed.set()
    for step in (5, 10, 15):
        committer.commit(Progress(step=step, epoch=0))
    committer.state.allowed.clear()
    committer.begin(Progress(step=20, epoch=0))
    committer.stop.requested = True
    committer.state.allowed.set()
    committer.settle(wait=True)
    committer.commit(Progress(step=22, epoch=0))
    assert [found.step for found in committer.job.commit_ids()] == [5, 10, 15, 20, 22]


def test_training_while_a_commit_is_written_is_not_counted_as_committed(
    committer: Committer,
) -> None:
    now = [0.0]
    heart = Heart(Heartbeat(attempt=1, phase=TrainerPhase.TRAINING))
    heart._stopwatch = Stopwatch(lambda: now[0])
    committer.listener = heart
    heart.report(phase=TrainerPhase.TRAINING)
    full = OSError(28, "No space left on device")
    for step, error, committed in [(5, None, 4), (10, full, 4), (15, None, 18)]:
        now[0] += 4
        heart.report(phase=TrainerPhase.SAVING)
        now[0] += 1
        committer.state.allowed.clear()
        committer.state.error = error
        committer.begin(Progress(step=step, epoch=0))
        heart.report(phase=TrainerPhase.TRAINING)
        now[0] += 3
        committer.state.allowed.set()
        with contextlib.suppress(CommitFailedError):
            committer.settle(wait=True)
        assert heart.spent().committed == committed


def test_a_state_that_cannot_be_taken_leaves_nothing_on_the_volume(
    committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> None:
        raise TypeError("no state of this callback can be kept")

    monkeypatch.setattr(committer.state, "capture", failing)
    with pytest.raises(TypeError, match="of this callback"):
        committer.begin(Progress(step=5, epoch=0))
    assert not list(committer.job.commits.iterdir())


def test_an_attempt_begins_although_the_best_commits_cannot_be_listed(
    committer: Committer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(job: JobDirectory) -> list[CommitId]:
        raise OSError(5, "Input/output error")

    committer.state.allowed.set()
    best = KeepBest(metric="loss", mode="min", count=1)
    policy = committer.policy.model_copy(update={"keep_best": best})
    with monkeypatch.context() as patched:
        patched.setattr(JobDirectory, "commit_ids", failing)
        made = replace(committer, policy=policy)
    assert "the best commits could not be found: [Errno 5] Input/output error" in caplog.text
    made.commit(Progress(step=5, epoch=0, results={"loss": 1.0}))
    assert ["000000000005-000001"] in committer.listener.told


def test_a_commit_holds_the_state_that_it_was_begun_with(committer: Committer) -> None:
    committer.state.value = 7
    committer.begin(Progress(step=5, epoch=0))
    committer.state.value = 8
    committer.state.allowed.set()
    committer.settle(wait=True)
    folder = committer.job.commit(CommitId(5, 1))
    assert (folder / "state").read_text() == "7"
    assert int(read_manifest(folder).state_sha256, 16) == 7


def test_a_write_that_failed_is_told_once_and_the_next_one_is_tried(committer: Committer) -> None:
    committer.state.allowed.set()
    committer.state.error = OSError(28, "No space left on device")
    committer.begin(Progress(step=5, epoch=0))
    with pytest.raises(CommitFailedError, match="commit at step 5") as caught:
        committer.settle(wait=True)
    assert "the volume is full" in caught.value.why
    committer.settle(wait=True)
    assert not committer.due(9)
    assert committer.due(10)
    committer.state.error = None
    committer.commit(Progress(step=10, epoch=0))
    assert committer.job.commit_ids() == [CommitId(10, 1)]
    assert not committer.job.temporary_folders()
