"""Progressing and CheckpointFresh: when they flip, that they do not flap, and what is said."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rtj_api.heartbeat import CommitInterval, Heartbeat, TrainerPhase
from rtj_api.names import Condition, ExitCode, Reason
from rtj_api.time_spent import TrainerSeconds
from rtj_operator.core.decision import Decision
from rtj_operator.core.observed import Observed, Problem, Silence, Waiting

from tests.unit.operator_looks import (
    DONE,
    NOW,
    after,
    beat,
    commit,
    condition,
    decided,
    exited,
    final,
    look,
    notices,
    pod,
    running,
    spec,
)

pytestmark = pytest.mark.unit


def progressing(decision: Decision) -> tuple[str, Reason]:
    found = condition(decision, Condition.PROGRESSING)
    assert found
    assert found.observed_generation == 1
    return found.status, found.reason


def training(step: int = 100, seconds: float = 200, **fields: Any) -> Heartbeat:
    """Return the beat of a trainer whose steps take 2 s unless told otherwise."""
    spent = TrainerSeconds(training=seconds, committed=seconds)
    return beat(step, **{"spent": spent, "commit": commit(step), **fields})


def standing(seconds: float, told: Heartbeat | None = None, **fields: Any) -> Observed:
    """Return a look at a trainer that has taken no step for so long."""
    told = told or training(seconds=200 + seconds)
    return look(
        pod(), status=running(), heartbeat=told, silence=Silence(progress=seconds), **fields
    )


class TestProgressing:
    """Whether steps are being taken, or an attempt is on its way to them."""

    def test_a_new_attempt_is_on_its_way(self) -> None:
        assert progressing(decided(look())) == ("True", Reason.WAITING_FOR_PODS)

    def test_a_pod_that_nobody_schedules_is_told_of_after_a_minute_though_no_event_comes(
        self,
    ) -> None:
        first = decided(look())
        assert first.requeue_after is not None
        assert first.requeue_after <= 60
        unplaced = pod(node=None, phase="Pending", started=False, created_time=NOW)
        waits = after(look(), first, unplaced)
        assert progressing(decided(waits, 59))[0] == "True"
        assert progressing(decided(waits, 60))[0] == "False"

    def test_a_pod_that_was_made_again_has_a_minute_of_its_own(self) -> None:
        again = pod(
            node=None, phase="Pending", started=False, created_time=NOW + timedelta(seconds=200)
        )
        waits = after(look(), decided(look()), again)
        assert progressing(decided(waits, 259))[0] == "True"
        assert progressing(decided(waits, 260))[0] == "False"

    def test_a_training_attempt_goes_on(self) -> None:
        assert progressing(decided(standing(5))) == ("True", Reason.TRAINING)

    def test_a_preemption_does_not_interrupt_it(self) -> None:
        gone = exited(75, final(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED))
        assert progressing(decided(look(gone, status=running())))[0] == "True"

    def test_a_launch_tells_of_the_new_attempt_though_the_old_pod_still_goes(self) -> None:
        going = replace(exited(143), deleting=True)
        assert progressing(decided(look(going, status=running()))) == (
            "True",
            Reason.WAITING_FOR_PODS,
        )

    @pytest.mark.parametrize(
        ("seconds", "told", "limit"),
        [
            (59, training(seconds=20 + 59), True),
            (61, training(seconds=20 + 61), False),
            (299, training(seconds=3000 + 299), True),
            (301, training(seconds=3000 + 301), False),
            (899, training(step=9, seconds=9 + 899), True),
            (901, training(step=9, seconds=9 + 901), False),
            (899, training(phase=TrainerPhase.SAVING), True),
            (901, training(phase=TrainerPhase.SAVING), False),
            (899, beat(100), True),
            (901, beat(100), False),
        ],
        ids=[
            "a minute is nothing unusual for quick steps",
            "more than a minute is",
            "ten usual steps are nothing unusual for slow ones",
            "more than ten are",
            "the first steps may take half of the timeout",
            "and no longer",
            "a commit may take half of its timeout",
            "but no longer",
            "without a measurement half of the timeout",
            "is all that can be said",
        ],
    )
    def test_a_standstill_is_measured_by_the_usual_step(
        self, seconds: float, told: Heartbeat, limit: bool
    ) -> None:
        decision = decided(standing(seconds, told))
        assert progressing(decision)[0] == str(limit)
        assert (Reason.NO_NEW_STEP in notices(decision)) is not limit

    def test_a_short_timeout_makes_no_standstill_of_less_than_a_minute(self) -> None:
        impatient = spec(hangPolicy={"trainingTimeoutSeconds": 90})
        assert progressing(decided(standing(59, spec=impatient)))[0] == "True"
        assert progressing(decided(standing(61, spec=impatient)))[0] == "False"

    def test_the_next_look_comes_when_it_may_flip(self) -> None:
        decision = decided(standing(55, since_mirrored=0))
        assert decision.requeue_after is not None
        assert decision.requeue_after <= 5

    def test_a_standstill_is_said_once_and_stays_one_for_a_new_process(self) -> None:
        first = decided(standing(61, training(seconds=20 + 61)))
        again = after(standing(61, training(seconds=20 + 61)), first, pod(), silence=Silence())
        second = decided(again, 5)
        assert second.status == first.status
        assert second.notices == ()

    def test_a_step_ends_it(self) -> None:
        still = standing(61, training(seconds=20 + 61))
        moved = after(still, decided(still), pod(), heartbeat=training(101), silence=Silence())
        assert progressing(decided(moved, 5)) == ("True", Reason.TRAINING)

    def test_a_pod_without_a_node_is_given_a_minute(self) -> None:
        waiting = Waiting("Unschedulable", "0/2 nodes are available")
        lonely = pod(node=None, phase="Pending", started=False, waiting=waiting)
        launched = after(look(), decided(look()), lonely)
        early = decided(launched, 59)
        assert progressing(early)[0] == "True"
        assert early.requeue_after is not None
        late = decided(launched, 61)
        assert progressing(late) == ("False", Reason.WAITING_FOR_PODS)
        assert notices(late) == [Reason.WAITING_FOR_PODS]
        assert notices(decided(after(launched, late, lonely), 90)) == []

    def test_what_the_pod_lacks_is_told_in_the_words_of_running(self) -> None:
        pulling = Waiting("ErrImagePull", "not found", "trainer")
        stuck = pod(phase="Pending", started=False, waiting=pulling)
        decision = decided(after(look(), decided(look()), stuck), 5)
        assert progressing(decision) == ("False", Reason.IMAGE_NOT_PULLABLE)
        assert notices(decision) == [Reason.IMAGE_NOT_PULLABLE]

    def test_a_job_that_is_blocked_backs_off_rests_or_is_over_does_not_progress(self) -> None:
        problem = Problem(Reason.CLAIM_NOT_FOUND, "there is no claim")
        assert progressing(decided(look(problems=(problem,)))) == ("False", problem.reason)
        failed = decided(look(exited(1), status=running()))
        assert progressing(failed) == ("False", Reason.BACK_OFF)
        rest = spec(runPolicy={"suspend": True})
        assert progressing(decided(look(spec=rest))) == ("False", Reason.SUSPENDED_BY_USER)
        over = decided(look(exited(0, DONE), status=running()))
        assert progressing(over) == ("False", Reason.COMPLETED)


def fresh(decision: Decision) -> tuple[str, Reason]:
    found = condition(decision, Condition.CHECKPOINT_FRESH)
    assert found
    assert found.observed_generation == 1
    return found.status, found.reason


def at_risk(seconds: float, policy: dict[str, Any], **fields: Any) -> Observed:
    """Return a look at a trainer with so much training after its newest commit, 2 s a step."""
    spent = TrainerSeconds(training=200 + seconds, committed=200)
    steps = int(100 + seconds / 2)
    told = beat(steps, **{"spent": spent, "commit": commit(100), **fields})
    wanted = spec(totalSteps=10**6, checkpoint={"claimName": "work", **policy})
    return look(pod(), status=running(), heartbeat=told, spec=wanted)


class TestCheckpointFresh:
    """Whether commits come as often as they should."""

    @pytest.mark.parametrize(
        ("policy", "limit"),
        [
            ({}, 240),
            ({"everySeconds": 600}, 1860),
            ({"everySteps": 50}, 360),
            ({"everySteps": 50, "everySeconds": 10}, 90),
            ({"auto": {}}, 360),
        ],
        ids=[
            "by default every minute",
            "by seconds",
            "by steps of 2 s",
            "whichever is first",
            "auto",
        ],
    )
    def test_three_intervals_and_a_minute_are_allowed(
        self, policy: dict[str, Any], limit: float
    ) -> None:
        told = {"commit_interval": CommitInterval(seconds=100)} if "auto" in policy else {}
        on_time = decided(at_risk(limit - 2, policy, **told))
        assert fresh(on_time) == ("True", Reason.COMMITS_ON_TIME)
        overdue = decided(at_risk(limit + 2, policy, **told))
        assert fresh(overdue) == ("False", Reason.COMMIT_OVERDUE)
        assert Reason.COMMIT_OVERDUE in notices(overdue)

    def test_it_is_unknown_before_the_first_commit_is_due_and_false_after(self) -> None:
        none: dict[str, Any] = {"commit": None}
        assert fresh(decided(at_risk(100, {}, **none))) == ("Unknown", Reason.NO_COMMIT_YET)
        assert fresh(decided(at_risk(300, {}, **none))) == ("False", Reason.COMMIT_OVERDUE)

    def test_it_is_unknown_where_the_trainer_does_not_measure(self) -> None:
        decision = decided(at_risk(300, {}, spent=None))
        assert fresh(decision) == ("Unknown", Reason.NOT_MEASURED)

    def test_it_is_said_once_and_only_a_newer_commit_ends_it(self) -> None:
        late = at_risk(400, {"everySteps": 50})
        overdue = decided(late)
        slower = at_risk(420, {"everySteps": 50}).heartbeat
        assert slower
        spent = TrainerSeconds(training=9000, committed=8700)
        slower = slower.model_copy(update={"spent": spent})
        still = decided(after(late, overdue, pod(), heartbeat=slower), 5)
        assert fresh(still)[0] == "False"
        assert Reason.COMMIT_OVERDUE not in notices(still)
        newer = at_risk(0, {"everySteps": 50}, commit=commit(300)).heartbeat
        assert fresh(decided(after(late, overdue, pod(), heartbeat=newer), 9))[0] == "True"

    def test_without_a_pod_the_last_word_stands(self) -> None:
        late = at_risk(400, {"everySteps": 50})
        rest = spec(runPolicy={"suspend": True})
        overdue = decided(late)
        resting = after(late, overdue, exited(75))
        resting = replace(resting, job=replace(resting.job, spec=rest), heartbeat=None)
        assert fresh(decided(resting, 86_400))[0] == "False"


def test_all_conditions_fit_into_status() -> None:
    many = decided(standing(5)).status.conditions
    assert {c.type for c in many} <= set(Condition)
    assert len(Condition) <= 9
    assert all(c.last_transition_time <= NOW for c in many)
