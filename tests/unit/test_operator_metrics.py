"""What the operator counts, and that it never counts twice."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from rtj_api.heartbeat import CommitRef
from rtj_api.names import Cause, ExitCode, Phase, Reason
from rtj_api.status import CurrentAttempt, EndedAttempt, JobStatus, Restarts
from rtj_operator.cluster import Key
from rtj_operator.core.lost import seconds_lost
from rtj_operator.metrics import LOST_SECONDS, REGISTRY, RESTARTS, Jobs, count

from tests.model.world import World
from tests.unit.operator_looks import NOW

pytestmark = pytest.mark.unit

KEY = Key("ns", "a")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def commit(seconds: float) -> CommitRef:
    return CommitRef(id="c", step=1, time=at(seconds))


def ended(cause: Cause = Cause.PREEMPTED, *, commit_at: float | None = None) -> JobStatus:
    """Return the status after an attempt that was decided at 0 s and ended at 100 s."""
    attempt = EndedAttempt(
        number=1, cause=cause, reason=Reason.EVICTED, start_time=at(0), end_time=at(100)
    )
    newest = commit(commit_at) if commit_at is not None else None
    return JobStatus(attempts=[attempt], last_commit=newest, restarts=Restarts(total=1))


def running(*, since: float | None = 10) -> JobStatus:
    """Return the status before: an attempt whose trainer was seen alive at 10 s."""
    alive = at(since) if since is not None else None
    attempt = CurrentAttempt(number=1, pod_name="a-1-0", decided_time=at(0), running_time=alive)
    return JobStatus(attempt=attempt)


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (running(), ended(commit_at=70), 30),
        (running(), ended(), 90),
        (running(), ended(commit_at=-500), 90),
        (running(since=None), ended(), 0),
        (running(), ended(commit_at=130), 0),
        (running(), ended(Cause.COMPLETED, commit_at=70), 0),
        (ended(commit_at=70), ended(commit_at=70), 0),
    ],
    ids=[
        "from the newest commit",
        "without a commit all since the trainer was alive",
        "a commit of an older attempt does not count",
        "a trainer that never lived lost nothing",
        "a clock that is ahead loses nothing, not less",
        "a complete job lost nothing",
        "nothing ended",
    ],
)
def test_lost_are_the_seconds_since(before: JobStatus, after: JobStatus, lost: float) -> None:
    assert seconds_lost(before, after) == lost


def total(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_an_ended_attempt_is_counted_once_by_its_cause() -> None:
    restarts = total("rtj_restarts_total", cause="Hung")
    lost = total("rtj_lost_seconds_total", cause="Hung")
    count(running(), ended(Cause.HUNG, commit_at=70))
    count(ended(Cause.HUNG, commit_at=70), ended(Cause.HUNG, commit_at=70))
    assert total("rtj_restarts_total", cause="Hung") == restarts + 1
    assert total("rtj_lost_seconds_total", cause="Hung") == lost + 30


def test_every_cause_has_a_series_from_the_start() -> None:
    for counter in (RESTARTS, LOST_SECONDS):
        (metric,) = counter.collect()
        assert {"Preempted", "UserError", "Hung"} <= {s.labels["cause"] for s in metric.samples}


def samples(jobs: Jobs, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for metric in jobs.collect()
        for sample in metric.samples
        if metric.name == name
    }


def test_jobs_are_counted_in_the_phase_that_they_have_now() -> None:
    jobs = Jobs()
    jobs.saw(KEY, JobStatus(phase=Phase.STARTING))
    jobs.saw(KEY, JobStatus(phase=Phase.RUNNING))
    jobs.saw(Key("ns", "b"), JobStatus(phase=Phase.RUNNING))
    by_phase = samples(jobs, "rtj_jobs")
    assert by_phase[("Running",)] == 2
    assert by_phase[("Starting",)] == 0
    jobs.forget(KEY)
    assert samples(jobs, "rtj_jobs")[("Running",)] == 1


@pytest.mark.parametrize("phase", [Phase.COMPLETED, Phase.FAILED, Phase.SUSPENDED, None], ids=str)
def test_the_age_of_a_checkpoint_is_shown_only_while_the_job_is_at_work(
    phase: Phase | None,
) -> None:
    name, jobs = "rtj_job_checkpoint_age_seconds", Jobs()
    newest = CommitRef(id="c", step=1, time=datetime.now(UTC) - timedelta(seconds=60))
    jobs.saw(KEY, JobStatus(phase=Phase.RUNNING))
    assert samples(jobs, name) == {}
    jobs.saw(KEY, JobStatus(phase=Phase.RUNNING, last_commit=newest))
    assert samples(jobs, name)[("ns", "a")] == pytest.approx(60, abs=5)
    if phase:
        jobs.saw(KEY, JobStatus(phase=phase, last_commit=newest))
    else:
        jobs.forget(KEY)
    assert samples(jobs, name) == {}


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.work()
    world.schedule()
    world.start_containers()
    world.work()
    yield world
    world.close()


@pytest.mark.parametrize("trouble", ["none", "a conflict", "a new process"])
def test_a_restart_counts_once_however_often_the_turn_is_taken(world: World, trouble: str) -> None:
    before = total("rtj_restarts_total", cause="UserError")
    (trainer,) = world.trainers.values()
    world.end(trainer, ExitCode.USER_ERROR, Reason.TRAINER_FAILED)
    if trouble == "a conflict":
        world.api.conflict_next = True
    for _ in range(3):
        world.work()
        if trouble == "a new process":
            world.start_operator()
        world.turn()
    assert world.status().restarts.user_error == 1
    assert total("rtj_restarts_total", cause="UserError") == before + 1
