"""What the operator counts, and that it never counts twice."""

from datetime import UTC, datetime, timedelta

import pytest
from rtj_api.heartbeat import CommitRef
from rtj_api.names import Cause, ExitCode, Phase, Reason
from rtj_api.status import CurrentAttempt, EndedAttempt, JobStatus, Restarts
from rtj_api.time_spent import TimeSpent
from rtj_operator.cluster import Key
from rtj_operator.core.lost import lost_by_clock
from rtj_operator.metrics import LOST_SECONDS, REGISTRY, RESTARTS, Jobs, count

from tests.model.world import World
from tests.unit.operator_looks import NOW

pytestmark = pytest.mark.unit

KEY = Key("ns", "a")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def commit(seconds: float) -> CommitRef:
    return CommitRef(id="c", step=1, time=at(seconds))


def ended(cause: Cause = Cause.PREEMPTED, *, lost: int = 0) -> JobStatus:
    """Return the status after an attempt that was decided at 0 s and ended at 100 s."""
    time = TimeSpent(useful_seconds=100 - lost, lost_seconds=lost)
    attempt = EndedAttempt(
        number=1,
        cause=cause,
        reason=Reason.EVICTED,
        start_time=at(0),
        end_time=at(100),
        time=time,
    )
    restarts = Restarts(total=1)
    return JobStatus(attempts=[attempt], restarts=restarts, start_time=at(0), time=time)


def current(*, since: float | None = 10) -> CurrentAttempt:
    """Return an attempt whose trainer was seen alive at 10 s."""
    alive = at(since) if since is not None else None
    return CurrentAttempt(number=1, pod_name="a-1-0", decided_time=at(0), running_time=alive)


def running() -> JobStatus:
    """Return the status before its end: 40 s were booked, of which some were still at risk."""
    time = TimeSpent(useful_seconds=30, uncommitted_seconds=10)
    attempt = current().model_copy(update={"time": time})
    return JobStatus(attempt=attempt, start_time=at(0), time=time)


@pytest.mark.parametrize(
    ("attempt", "committed", "cause", "lost"),
    [
        (current(), at(70), Cause.PREEMPTED, 30),
        (current(), None, Cause.PREEMPTED, 90),
        (current(), at(-500), Cause.PREEMPTED, 90),
        (current(since=None), None, Cause.PREEMPTED, 0),
        (current(), at(130), Cause.PREEMPTED, 0),
        (current(), at(70), Cause.COMPLETED, 0),
    ],
    ids=[
        "from the newest commit",
        "without a commit all since the trainer was alive",
        "a commit of an older attempt does not count",
        "a trainer that never lived lost nothing",
        "a clock that is ahead loses nothing, not less",
        "a complete job lost nothing",
    ],
)
def test_where_nothing_is_measured_lost_are_the_seconds_since(
    attempt: CurrentAttempt, committed: datetime | None, cause: Cause, lost: float
) -> None:
    assert lost_by_clock(attempt, committed, cause, at(100)) == lost


def total(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_an_ended_attempt_is_counted_once_by_its_cause() -> None:
    restarts = total("rtj_restarts_total", cause="Hung")
    lost = total("rtj_lost_seconds_total", cause="Hung")
    count(running(), ended(Cause.HUNG, lost=30))
    count(ended(Cause.HUNG, lost=30), ended(Cause.HUNG, lost=30))
    assert total("rtj_restarts_total", cause="Hung") == restarts + 1
    assert total("rtj_lost_seconds_total", cause="Hung") == lost + 30


def test_time_is_counted_by_kind_when_it_is_over() -> None:
    kinds = ("useful", "lost", "waiting")

    def counted() -> list[float]:
        return [total("rtj_time_seconds_total", kind=kind) for kind in kinds]

    before = counted()
    count(JobStatus(start_time=at(0), time=TimeSpent()), running())
    assert counted() == before, "what is at risk may still become either"
    over = ended(lost=30)
    count(running(), over)
    assert over.time
    paused = over.time.model_copy(update={"waiting_seconds": 20})
    count(over, over.model_copy(update={"time": paused}))
    count(over, over)
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [70, 30, 20]


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
    made = datetime.now(UTC)
    newest = CommitRef(id="c", step=1, time=made - timedelta(seconds=60))
    jobs.saw(KEY, JobStatus(phase=Phase.RUNNING))
    assert samples(jobs, name) == {}
    jobs.saw(KEY, JobStatus(phase=Phase.RUNNING, last_commit=newest))
    age = samples(jobs, name)[("ns", "a")]
    assert 60 <= age <= 60 + (datetime.now(UTC) - made).total_seconds()
    if phase:
        jobs.saw(KEY, JobStatus(phase=phase, last_commit=newest))
    else:
        jobs.forget(KEY)
    assert samples(jobs, name) == {}


def test_the_goodput_of_a_job_is_shown_only_while_it_is_at_work_and_known() -> None:
    name, jobs = "rtj_job_goodput_ratio", Jobs()
    time = TimeSpent(useful_seconds=70, lost_seconds=30)
    jobs.saw(KEY, JobStatus(phase=Phase.RUNNING, time=time))
    assert samples(jobs, name)[("ns", "a")] == pytest.approx(0.7)
    jobs.saw(KEY, JobStatus(phase=Phase.RUNNING, time=TimeSpent(unknown_seconds=100)))
    assert samples(jobs, name) == {}
    jobs.saw(KEY, JobStatus(phase=Phase.RUNNING, time=time))
    jobs.saw(KEY, JobStatus(phase=Phase.COMPLETED, time=time))
    assert samples(jobs, name) == {}


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
