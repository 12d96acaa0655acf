"""Where the time of a job went: right, whole, and never at the price of a write."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rtj_api.heartbeat import CommitRef, Heartbeat, Position, TrainerPhase
from rtj_api.names import Cause, ExitCode, Phase, Reason
from rtj_api.status import CurrentAttempt, JobStatus
from rtj_api.time_spent import TimeSpent, TrainerSeconds
from rtj_operator.core.classify import Ending
from rtj_operator.core.decision import Decision
from rtj_operator.core.observed import Job, Observed, Pod, Problem, Silence
from rtj_operator.core.timekeeping import accounted, finished_part

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

SPENT = TrainerSeconds(starting=20, training=60, saving=4, committed=50)
"""Of the attempt that was decided 100 s ago."""
DECIDED = NOW - timedelta(seconds=100)


def at(seconds: float) -> datetime:
    """Return the time so long after the attempt was decided."""
    return DECIDED + timedelta(seconds=seconds)


def stamped(skew: float = 0, **fields: Any) -> Pod:
    """Return a pod that got its node after 2 s and started after 16, by its node's clock."""
    times = {
        "created_time": at(0),
        "scheduled_time": at(2),
        "started_time": at(16 + skew),
    }
    return pod(**{**times, **fields})


def fresh(**fields: Any) -> JobStatus:
    """Return the status right after the attempt was launched by this operator."""
    status = running(time=TimeSpent(), **fields)
    assert status.attempt
    update = {"time": TimeSpent(), "running_time": None}
    return status.model_copy(update={"attempt": status.attempt.model_copy(update=update)})


def spent(decision: Decision) -> dict[str, int]:
    """Return the kinds that took time, of the whole job."""
    assert decision.status.time is not None
    kinds = decision.status.time.model_dump()
    return {name.removesuffix("_seconds"): value for name, value in kinds.items()}


HEALTHY = {
    "scheduling": 2,
    "pulling": 14,
    "starting": 20,
    "useful": 50,
    "uncommitted": 10,
    "saving": 4,
}


@pytest.mark.parametrize("skew", [0, 20, -20, 86_400, -86_400])
def test_the_time_of_an_attempt_is_told_by_kind_whatever_the_clock_of_its_node_shows(
    skew: float,
) -> None:
    decision = decided(look(stamped(skew), status=fresh(), heartbeat=beat(6, spent=SPENT)))
    assert spent(decision) == HEALTHY
    assert decision.status.goodput == "50%"
    assert decision.status.attempt
    assert decision.status.attempt.time == decision.status.time


def test_beats_that_were_lost_change_nothing() -> None:
    early = SPENT.model_copy(update={"training": 30, "committed": 25})
    seen = look(stamped(), status=fresh(), heartbeat=beat(3, spent=early))
    later = after(seen, decided(seen, -30), stamped(), heartbeat=beat(6, spent=SPENT))
    assert spent(decided(later)) == HEALTHY


def test_of_a_node_that_dies_what_was_not_committed_is_lost_and_its_silence_is_noticing() -> None:
    told = beat(6, spent=SPENT, commit=commit(5))
    seen = look(stamped(), status=fresh(), heartbeat=told)
    dead = after(
        seen,
        decided(seen),
        stamped(),
        silence=Silence(heartbeat=12, node_lease=12, progress=12),
    )
    decision = decided(dead, 12)
    (ended,) = decision.status.attempts
    assert (ended.cause, ended.reason) == (Cause.PREEMPTED, Reason.NODE_LOST)
    assert ended.time
    assert (ended.time.lost_seconds, ended.time.noticing_seconds) == (10, 12)
    assert (ended.time.useful_seconds, ended.time.uncommitted_seconds) == (50, 0)
    assert decision.status.time == ended.time, "the next attempt begins at nothing"


def test_a_live_trainer_that_is_silent_is_given_the_benefit_of_the_doubt() -> None:
    seen = look(stamped(), status=fresh(), heartbeat=beat(6, spent=SPENT))
    silent = after(seen, decided(seen), stamped(), silence=Silence(heartbeat=8))
    moved = replace(silent, heartbeat=beat(7, spent=SPENT), since_mirrored=20)
    assert spent(decided(moved, 8)) == {**HEALTHY, "uncommitted": 18}


def test_an_operator_that_was_away_loses_nothing_while_the_trainer_lives() -> None:
    hours = TrainerSeconds(starting=20, training=7200, saving=400, committed=7150)
    seen = look(stamped(), status=fresh(), heartbeat=beat(6, spent=SPENT))
    back = after(seen, decided(seen), stamped(), heartbeat=beat(700, spent=hours))
    assert spent(decided(back, 7636 - 100)) == {
        **HEALTHY,
        "useful": 7150,
        "uncommitted": 50,
        "saving": 400,
    }


@pytest.mark.parametrize("heard", [True, False], ids=["heard before", "never heard"])
def test_an_end_that_the_operator_missed_is_told_by_the_last_word(heard: bool) -> None:
    seen = look(stamped(), status=fresh(), heartbeat=beat(6, spent=SPENT))
    status = decided(seen).status if heard else fresh()
    whole = SPENT.model_copy(update={"training": 90, "committed": 90})
    word = final(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED).model_copy(update={"spent": whole})
    gone = exited(75, word, created_time=at(0), scheduled_time=at(2), started_time=at(16))
    decision = decided(look(gone, status=status, heartbeat=beat(6, spent=SPENT)), 3600)
    assert spent(decision) == {
        "scheduling": 2,
        "pulling": 14,
        "starting": 20,
        "useful": 90,
        "saving": 4,
        "noticing": 3700 - 130,
    }


def test_a_new_process_that_reads_an_old_beat_does_not_take_its_age_for_pulling() -> None:
    seen = look(stamped(), status=fresh(), heartbeat=beat(6, spent=SPENT))
    old = after(seen, decided(seen), stamped(), heartbeat=beat(7, spent=SPENT))
    kinds = spent(decided(old, 600))
    assert kinds["scheduling"] + kinds["pulling"] <= 17
    assert kinds["unknown"] >= 590, "nobody knows yet what the trainer did since"


@pytest.mark.parametrize("skew", [3600, -3600])
def test_once_a_trainer_was_heard_the_clock_of_its_node_counts_for_nothing(skew: float) -> None:
    seen = look(stamped(skew), status=fresh(), heartbeat=beat(6, spent=SPENT))
    word = final(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED)
    word = word.model_copy(update={"spent": SPENT})
    gone = exited(75, word, started_time=at(16 + skew))
    kinds = spent(decided(after(seen, decided(seen), gone), 30))
    assert (kinds["scheduling"] + kinds["pulling"], kinds["noticing"]) == (16, 30)


def test_the_standstill_of_a_hung_trainer_is_hung_and_not_lost() -> None:
    policy = spec(hangPolicy={"trainingTimeoutSeconds": 30})
    stuck = SPENT.model_copy(update={"training": 60 + 41})
    asked = beat(6, spent=stuck)
    seen = look(stamped(), status=fresh(), heartbeat=beat(6, spent=SPENT), spec=policy)
    hung = after(
        seen,
        decided(seen),
        stamped(),
        heartbeat=asked,
        silence=Silence(progress=41, asked=11),
        stacks_asked=asked.standstill,
    )
    decision = decided(hung, 41)
    (ended,) = decision.status.attempts
    assert ended.cause is Cause.HUNG
    assert ended.time
    assert (ended.time.hung_seconds, ended.time.lost_seconds) == (41, 10)


class TestATrainerThatDoesNotMeasure:
    """Its image is older than the operator."""

    def test_has_unknown_time_and_no_goodput(self) -> None:
        decision = decided(look(stamped(), status=fresh(), heartbeat=beat(6)))
        assert spent(decision) == {"scheduling": 2, "pulling": 14, "unknown": 84}
        assert decision.status.goodput is None

    def test_loses_by_the_clock(self) -> None:
        newest = CommitRef(id="c", step=5, time=at(80))
        gone = exited(75, None, created_time=at(0), scheduled_time=at(2), started_time=at(16))
        status = running(time=TimeSpent())
        decision = decided(look(gone, status=status, heartbeat=beat(6, commit=newest)))
        assert spent(decision) == {"scheduling": 2, "pulling": 14, "unknown": 64, "lost": 20}


def test_a_trainer_that_was_never_heard_was_starting() -> None:
    gone = exited(1, None, created_time=at(0), scheduled_time=at(2), started_time=at(16))
    decision = decided(look(gone, status=fresh()))
    assert spent(decision) == {"scheduling": 2, "pulling": 14, "starting": 84}


@pytest.mark.parametrize(
    ("there", "kinds"),
    [
        (pod(node=None, phase="Pending", started=False, created_time=at(0)), {"scheduling": 100}),
        (
            pod(phase="Pending", started=False, created_time=at(0), scheduled_time=at(7)),
            {"scheduling": 7, "pulling": 93},
        ),
    ],
    ids=["without a node", "without its image"],
)
def test_a_pod_that_never_started_waited_for_what_it_lacked(
    there: Pod, kinds: dict[str, int]
) -> None:
    status = fresh()
    assert status.attempt
    status = status.model_copy(
        update={"attempt": status.attempt.model_copy(update={"pod_uid": None})}
    )
    deleted = replace(there, phase="Failed", reason="NodeAffinity")
    assert spent(decided(look(deleted, status=status))) == kinds


class TestPauses:
    """Time without an attempt."""

    def failed(self) -> Observed:
        """Return the look after an attempt that failed, in its back-off of at least 10 s."""
        seen = look(exited(1, started_time=at(16)), status=fresh())
        return after(seen, decided(seen))

    def test_a_back_off_is_waiting(self) -> None:
        assert spent(decided(self.failed(), 16))["waiting"] == 16

    def test_a_suspension_is_not(self) -> None:
        resting = replace(
            self.failed(), job=replace(self.failed().job, spec=spec(runPolicy={"suspend": True}))
        )
        suspended = decided(resting, 5)
        again = after(resting, suspended)
        resumed = decided(replace(again, job=replace(again.job, spec=spec())), 65)
        kinds = spent(resumed)
        assert (kinds["waiting"], kinds["suspended"]) == (5, 60)

    def test_what_blocks_a_pod_is_waiting_though_an_attempt_is_decided(self) -> None:
        problem = Problem(Reason.POD_REJECTED, "exceeded quota")
        first = decided(look())
        refused = after(look(), first, problems=(problem,))
        blocked = after(refused, decided(refused, 1), problems=())
        created = NOW + timedelta(seconds=300)
        bound = {"created_time": created, "scheduled_time": created}
        there = pod(phase="Pending", started=False, **bound)
        decision = decided(replace(blocked, pods=(there,)), 302)
        assert spent(decision) == {"waiting": 300, "pulling": 2}

    def test_the_time_of_a_finished_job_stands_still(self) -> None:
        seen = look(exited(0, final(ExitCode.COMPLETED, Reason.COMPLETED)), status=fresh())
        done = decided(seen)
        assert done.status.phase is Phase.COMPLETED
        assert done.status.time
        assert done.status.time.total == 100
        again = after(seen, done)
        assert decided(again, 5000).status == done.status
        edited = replace(again, job=replace(again.job, generation=2))
        later = decided(edited, 5000)
        assert later.status.observed_generation == 2
        assert later.status.time == done.status.time


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    seen = look(stamped(), status=fresh(), heartbeat=beat(6, spent=SPENT))
    back = after(seen, decided(seen), stamped(), heartbeat=beat(7, spent=SPENT))
    decision = decided(back, -50)
    assert decision.status.time
    assert decision.status.time.total == 100


SECONDS = st.floats(0, 1e5)
STAMPS = st.none() | st.floats(-1e6, 1e6).map(at)


@st.composite
def _spent(draw: st.DrawFn) -> TrainerSeconds:
    names = ("starting", "restoring", "replaying", "training", "saving", "committed")
    return TrainerSeconds(**{name: draw(SECONDS) for name in names})


@st.composite
def _looks(draw: st.DrawFn) -> Observed:
    """Draw what may be seen of an attempt, possible or not: beats and stamps of any clock."""
    told = Heartbeat(
        attempt=1,
        phase=draw(st.sampled_from(TrainerPhase)),
        position=Position(step=draw(st.integers(0, 9))),
        spent=draw(st.none() | _spent()),
    )
    there = pod(
        node=draw(st.sampled_from([None, "node-a"])),
        started=draw(st.booleans()),
        created_time=draw(STAMPS),
        scheduled_time=draw(STAMPS),
        started_time=draw(STAMPS),
    )
    return look(
        *draw(st.sampled_from([(), (there,)])),
        heartbeat=draw(st.sampled_from([None, told])),
        silence=Silence(heartbeat=draw(SECONDS), progress=draw(SECONDS)),
    )


ENDINGS = st.sampled_from([None, None, *Cause])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(_looks(), st.floats(-1e4, 1e5), ENDINGS), min_size=1, max_size=8))
def test_the_kinds_add_up_and_what_is_over_never_changes(
    story: list[tuple[Observed, float, Cause | None]],
) -> None:
    status = JobStatus(start_time=DECIDED, time=TimeSpent())
    latest = now = DECIDED
    for seen, seconds, cause in story:
        if status.attempt is None:
            status = status.model_copy(update=accounted(status, seen, now))
            begun = CurrentAttempt(number=1, pod_name="job-1-0", decided_time=now, time=TimeSpent())
            status = status.model_copy(update={"attempt": begun})
        now += timedelta(seconds=seconds)
        latest = max(latest, now)
        job = Job("ns", "job", "uid", 1, status, seen.job.spec)
        ending = Ending(cause, Reason.EVICTED, "") if cause else None
        before = status
        status = status.model_copy(update=accounted(status, replace(seen, job=job), now, ending))
        assert status.time
        assert status.attempt
        assert status.attempt.time
        assert status.time.total == int((latest - DECIDED).total_seconds())
        assert finished_part(before) == finished_part(status)
        if ending:
            assert status.attempt.time.uncommitted_seconds == 0
            status = status.model_copy(update={"attempt": None})
