"""An attempt that goes on from before the newest commit is told of, however late it is seen."""

from dataclasses import replace
from typing import Any

import pytest
from rtj_api.heartbeat import Heartbeat, TrainerPhase
from rtj_api.names import Cause, Condition, ExitCode, Phase, Reason
from rtj_api.restore import RestoreAnswer, RestoreOutcome, RestoreStatus
from rtj_api.status import EndedAttempt, JobStatus
from rtj_operator.core.decision import Decision
from rtj_operator.core.observed import Observed

from tests.unit.operator_looks import (
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
    starting,
)

pytestmark = pytest.mark.unit

LOST, FOUND = commit(40), commit(20)
RESTORING = TrainerPhase.RESTORING
TOLD = "Attempt 2 goes on from step 20, although step 40 was committed: "


def preempted(number: int = 1, step: int = LOST.step) -> EndedAttempt:
    return EndedAttempt(
        number=number,
        cause=Cause.PREEMPTED,
        reason=Reason.POD_DELETED,
        committed_step=step,
        start_time=NOW,
        end_time=NOW,
    )


def second(**fields: Any) -> JobStatus:
    """Return the status of a job whose second attempt starts after a commit of step 40."""
    return starting(2, **{"attempts": [preempted()], "last_commit": LOST, **fields})


def from_before(step: int = 20, **fields: Any) -> Heartbeat:
    """Return a beat of that attempt, which found the commit of step 20 only."""
    return beat(step, 2, **{"started_from": FOUND, "commit": FOUND, **fields})


def restores(**fields: Any) -> Heartbeat:
    return from_before(phase=RESTORING, **fields)


def seen(heard: Heartbeat, **fields: Any) -> Observed:
    return look(pod(2), **{"status": second(), "heartbeat": heard, **fields})


def said(decision: Decision) -> str:
    """Return the message of the condition, empty without one."""
    shown = condition(decision, Condition.POSITION_REGRESSED)
    return shown.message if shown else ""


def test_it_is_a_condition_and_one_event_with_both_steps() -> None:
    observed = seen(from_before())
    decision = decided(observed)
    shown = condition(decision, Condition.POSITION_REGRESSED)
    assert shown
    assert (shown.status, shown.reason) == ("True", Reason.POSITION_REGRESSED)
    assert shown.message.startswith(TOLD)
    assert notices(decision) == [Reason.POSITION_REGRESSED, Reason.TRAINING]
    assert decision.notices[0].message == shown.message
    assert decision.notices[0].severity == "Warning"
    assert decision.status.last_commit == FOUND
    assert notices(decided(after(observed, decision, pod(2)))) == []


@pytest.mark.parametrize(
    "late",
    [
        from_before(25),
        from_before(35, commit=commit(30, 2)),
        from_before(55, commit=commit(50, 2)),
        from_before(warning=final(0, Reason.FINGERPRINT_CHANGED, "keras: 3.1 -> 3.2")),
    ],
    ids=["step", "commit before", "commit after", "another warning"],
)
def test_an_operator_that_comes_late_says_it_all_the_same(late: Heartbeat) -> None:
    decision = decided(seen(late))
    assert said(decision).startswith(TOLD)
    assert notices(decision)[0] is Reason.POSITION_REGRESSED


def test_it_is_said_at_the_end_of_an_attempt_that_was_never_seen_alive() -> None:
    heard = from_before(25, final=final(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED))
    gone = look(exited(137, attempt=2), status=second(), heartbeat=heard)
    assert notices(decided(gone))[0] is Reason.POSITION_REGRESSED


def test_it_is_said_of_an_attempt_whose_job_ended_before_it_trained() -> None:
    closed = [preempted(), preempted(2)]
    ended = {"phase": Phase.FAILED, "attempt": None, "attempts": closed, "completion_time": NOW}
    status = second().model_copy(update=ended)
    decision = decided(look(status=status, heartbeat=from_before(30, commit=commit(30, 2))))
    assert said(decision).startswith(TOLD)
    assert notices(decision) == [Reason.POSITION_REGRESSED]
    assert decision.status.last_commit == commit(30, 2)


def test_the_reasons_of_the_trainer_are_told_in_the_same_words_and_no_second_time() -> None:
    damaged = final(0, Reason.POSITION_REGRESSED, f"commit {LOST.id}: state.safetensors: sha256")
    observed = seen(from_before(warning=damaged))
    decision = decided(observed)
    assert said(decision).startswith(f"{TOLD}{damaged.message}.")
    assert notices(decision) == [Reason.POSITION_REGRESSED, Reason.TRAINING]
    running_now = condition(decision, Condition.RUNNING)
    assert running_now
    assert Reason.POSITION_REGRESSED not in running_now.message
    later = decided(after(observed, decision, pod(2), heartbeat=from_before(31)))
    assert said(later) == said(decision), "the reasons stay when the warning has gone"
    assert notices(later) == []


def test_each_attempt_is_told_of_by_itself() -> None:
    observed = seen(from_before(50, commit=commit(50, 2)))
    first = decided(observed)
    ended = decided(after(observed, first))
    assert ended.status.attempt
    again = beat(20, 3, started_from=FOUND, commit=FOUND)
    decision = decided(after(observed, ended, pod(3), heartbeat=again))
    assert "Attempt 3 goes on from step 20, although step 50 was" in said(decision)
    fine = running(3, attempts=[preempted(2, 20)], last_commit=FOUND)
    assert decided(look(pod(3), status=fine, heartbeat=again)).notices == ()


@pytest.mark.parametrize("step", [40, 45])
def test_nothing_is_said_of_an_attempt_that_goes_on_from_the_newest(step: int) -> None:
    there = commit(step)
    decision = decided(seen(from_before(step, started_from=there, commit=there)))
    assert notices(decision) == [Reason.TRAINING]
    assert said(decision) == ""


def test_nothing_is_said_of_the_first_attempt_of_a_fork() -> None:
    observed = look(pod(), status=starting(), heartbeat=beat(20, started_from=FOUND, commit=FOUND))
    assert notices(decided(observed)) == [Reason.TRAINING]


class TestBeforeItHasRecordedItsStart:
    """A trainer that restores an older commit may be about to answer a request to go back."""

    @pytest.mark.parametrize(
        "heard",
        [
            restores(),
            from_before(
                phase=TrainerPhase.FINISHED,
                final=final(ExitCode.USER_ERROR, Reason.BUILDER_FAILED),
            ),
        ],
        ids=["restores", "ended"],
    )
    def test_neither_status_nor_an_event_says_that_the_commit_fell(self, heard: Heartbeat) -> None:
        decision = decided(seen(heard))
        assert decision.status.last_commit == LOST
        assert decision.status.position is None
        assert Reason.POSITION_REGRESSED not in notices(decision)

    def test_a_newer_commit_is_taken_at_once(self) -> None:
        newer = commit(45)
        decision = decided(seen(restores(started_from=newer, commit=newer)))
        assert decision.status.last_commit == newer


class TestGoingBackOnPurpose:
    """A request that is honoured is no loss."""

    ASKED = RestoreStatus(from_commit=FOUND.id, request=1, after_attempt=1)
    HONOURED = RestoreAnswer(request=1, reason=Reason.RESTORED)

    def asked(self, heard: Heartbeat, **fields: Any) -> Observed:
        wish = spec(restore={"fromCommit": FOUND.id})
        status = second(restore=self.ASKED.model_copy(update=fields))
        return seen(heard, status=status, spec=wish)

    def test_is_not_called_a_loss_then_or_later(self) -> None:
        observed = self.asked(from_before(restore=self.HONOURED))
        decision = decided(observed)
        assert notices(decision) == [Reason.RESTORED, Reason.TRAINING]
        taken_out = after(observed, decision, pod(2))
        taken_out = replace(taken_out, job=replace(taken_out.job, spec=spec()))
        assert notices(decided(taken_out)) == []

    def test_nor_for_the_next_attempt_though_this_one_died_before_it_was_mirrored(self) -> None:
        trains = running(2, attempts=[preempted()], last_commit=LOST, restore=self.ASKED)
        observed = self.asked(from_before(restore=self.HONOURED), outcome=RestoreOutcome.PENDING)
        observed = replace(observed, job=replace(observed.job, status=trains), since_mirrored=1)
        decision = decided(observed)
        assert decision.status.last_commit == FOUND
        forgotten = decided(after(observed, decision, heartbeat=None))
        third = beat(20, 3, started_from=FOUND, commit=FOUND)
        assert Reason.POSITION_REGRESSED not in notices(
            decided(after(observed, forgotten, pod(3), heartbeat=third))
        )

    def test_a_refused_one_explains_no_loss(self) -> None:
        no = RestoreAnswer(request=1, reason=Reason.COMMIT_DAMAGED, message="damaged")
        decision = decided(self.asked(from_before(restore=no)))
        assert notices(decision)[:2] == [Reason.COMMIT_DAMAGED, Reason.POSITION_REGRESSED]

    def test_to_start_from_before_the_commit_that_was_asked_for_is_a_loss(self) -> None:
        asked = commit(30).id
        observed = self.asked(from_before(restore=self.HONOURED), from_commit=asked)
        observed = replace(
            observed, job=replace(observed.job, spec=spec(restore={"fromCommit": asked}))
        )
        assert "step 20, although step 30 was committed" in said(decided(observed))
