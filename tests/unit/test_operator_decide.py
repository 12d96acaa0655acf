"""What the operator does about what it sees, one sentence a test."""

from dataclasses import replace
from datetime import timedelta

import pytest
from rtj_api.heartbeat import CacheProgress, FinalRecord, Heartbeat, Position, TrainerPhase
from rtj_api.names import Cause, Condition, ExitCode, Phase, Reason
from rtj_api.status import EndedAttempt, JobStatus, Restarts
from rtj_operator.core.budget import backoff
from rtj_operator.core.decision import DeleteJob, EnsureObjects
from rtj_operator.core.observed import Observed, Pod, Problem, Silence, Waiting

from tests.unit.operator_looks import (
    DONE,
    NODE,
    NOW,
    after,
    beat,
    commit,
    condition,
    created,
    decided,
    deleted,
    exited,
    final,
    look,
    notices,
    pause,
    pod,
    running,
    spec,
    starting,
)

pytestmark = pytest.mark.unit

FAILED = final(ExitCode.USER_ERROR, Reason.TRAINER_FAILED, "ValueError: NaN")
DEAD = Silence(heartbeat=12, node_lease=12)


def skipped(step: int) -> Heartbeat:
    """Return the beat of a trainer that could not commit this step."""
    text = f"commit at step {step} was skipped: No space left on device"
    return beat(step, warning=final(0, Reason.COMMIT_SKIPPED, text))


def ended(number: int, cause: Cause = Cause.PREEMPTED, step: int | None = None) -> EndedAttempt:
    return EndedAttempt(
        number=number,
        cause=cause,
        reason=Reason.POD_DELETED,
        committed_step=step,
        start_time=NOW,
        end_time=NOW,
    )


class TestLaunching:
    """Before a trainer runs."""

    def test_a_new_job_gets_its_first_attempt_in_status_and_its_pod(self) -> None:
        decision = decided(look())
        assert decision.status.attempt
        assert decision.status.attempt.number == 1
        assert decision.status.phase is Phase.STARTING
        assert decision.status.start_time == NOW
        assert created(decision) == ["job-1-0"]
        assert notices(decision) == [Reason.ATTEMPT_LAUNCHED]

    def test_after_a_crash_before_the_pod_was_made_it_is_made_under_the_same_name(self) -> None:
        first = look()
        decision = decided(first)
        again = decided(after(first, decision))
        assert created(again) == ["job-1-0"]
        assert again.status == decision.status

    def test_a_pod_that_is_there_is_not_made_again(self) -> None:
        first = look()
        waiting = pod(node=None, phase="Pending", started=False)
        assert created(decided(after(first, decided(first), waiting))) == []

    def test_an_attempt_that_was_never_given_a_node_costs_no_write_when_its_pod_appears(
        self,
    ) -> None:
        first = look()
        decision = decided(first)
        waiting = pod(node=None, phase="Pending", started=False)
        assert decided(after(first, decision, waiting)).status == decision.status

    def test_status_names_the_node_if_its_trainer_does_not_soon(self) -> None:
        first = look()
        scheduled = pod(phase="Pending", started=False)
        observed = after(first, decided(first), scheduled)
        decision = decided(observed)
        assert decision.status.attempt
        assert decision.status.attempt.node_name is None
        assert decision.requeue_after == 3
        silent = replace(observed, silence=Silence(heartbeat=3))
        status = decided(silent).status
        assert status.attempt
        assert (status.attempt.pod_uid, status.attempt.node_name) == ("pod-1", NODE)

    def test_what_is_missing_is_shown_and_looked_for_again_but_no_pod_is_made(self) -> None:
        problem = Problem(Reason.BUILDER_NOT_FOUND, "spec.builder.configMap.name 'code': …")
        observed = look(problems=(problem,))
        decision = decided(observed)
        assert created(decision) == []
        assert decision.status.attempt is None
        assert decision.status.phase is Phase.PENDING
        shown = condition(decision, Condition.RUNNING)
        assert shown
        assert (shown.status, shown.reason, shown.message) == (
            "False",
            Reason.BUILDER_NOT_FOUND,
            problem.message,
        )
        assert decision.requeue_after == 10
        assert notices(decision) == [Reason.BUILDER_NOT_FOUND]
        again = decided(after(observed, decision))
        assert (again.status, again.notices) == (decision.status, ())
        assert created(decided(after(observed, decision, problems=()))) == ["job-1-0"]

    def test_attempt_numbers_grow_even_if_status_was_lost(self) -> None:
        decision = decided(look(pod(attempt=4), heartbeat=beat(attempt=6)))
        assert created(decision) == ["job-7-0"]
        assert deleted(decision) == ["pod-4"]

    def test_after_a_restore_of_the_cluster_they_jump_past_those_that_the_volume_knows(
        self,
    ) -> None:
        stale = FinalRecord(
            exit_code=ExitCode.SUPERSEDED, reason=Reason.SUPERSEDED, message="", newest_attempt=40
        )
        said = decided(look(exited(76, stale), status=running()))
        assert created(said) == ["job-41-0"]
        beaten = decided(look(status=running(), heartbeat=beat(final=stale)))
        assert created(beaten) == ["job-41-0"]

    def test_a_spec_that_cannot_be_read_fails_the_job(self) -> None:
        decision = decided(look(spec=None, spec_error="spec.trainer.image is missing."))
        assert decision.status.phase is Phase.FAILED
        failed = condition(decision, Condition.FAILED)
        assert failed
        assert (failed.reason, failed.message) == (
            Reason.INVALID_SPEC,
            "spec.trainer.image is missing.",
        )

    @pytest.mark.parametrize(
        "under",
        [
            {"containers": [{"name": "trainer", "env": {"A": "b"}}]},
            {"containers": [{"name": "trainer", "volumeMounts": ["/data"]}]},
            {"containers": [{"name": "trainer", "securityContext": "x"}]},
            {"containers": {"name": "trainer"}},
            {"initContainers": {"name": "first"}},
            {"tolerations": {"key": "gpu"}},
            {"volumes": {"name": "data"}},
            {"volumes": [{"name": {}}]},
            {"securityContext": "x"},
            "x",
        ],
        ids=str,
    )
    @pytest.mark.parametrize("attempts", [[], [ended(1, Cause.PREEMPTED)]], ids=["new", "again"])
    def test_a_template_that_is_no_pod_is_said_and_the_mended_one_is_launched(
        self, under: object, attempts: list[EndedAttempt]
    ) -> None:
        trainer = {"image": "trainer:1", "podTemplate": {"spec": under}}
        status = JobStatus(attempts=attempts)
        observed = look(spec=spec(trainer=trainer), status=status, lease_found=False)
        decision = decided(observed)
        assert decision.actions == ()
        shown = condition(decision, Condition.RUNNING)
        assert shown
        assert (shown.status, shown.reason) == ("False", Reason.POD_REJECTED)
        assert shown.message.startswith("spec.trainer.podTemplate has a value of another type")
        assert notices(decision)[-1] is Reason.POD_REJECTED
        assert decision.requeue_after
        again = decided(after(observed, decision))
        assert (again.status, again.notices) == (decision.status, ())
        mended = look(status=decision.status)
        assert created(decided(mended)) == [f"job-{len(attempts) + 1}-0"]

    @pytest.mark.parametrize("there", [True, False], ids=["trains", "gone"])
    def test_a_spec_that_became_invalid_ends_no_job_that_has_trained(self, there: bool) -> None:
        wrong = {"spec": None, "spec_error": "spec.trainer.image is wrong (it is 'a b')."}
        pods = (pod(),) if there else ()
        observed = look(*pods, status=running(), heartbeat=beat(), **wrong)
        decision = decided(observed)
        assert decision.actions == ()
        status = decision.status
        assert status.attempt
        assert (status.phase, status.attempt.number, status.attempts) == (Phase.RUNNING, 1, [])
        shown = condition(decision, Condition.RUNNING)
        assert shown
        assert (shown.status, shown.reason) == (str(there), Reason.INVALID_SPEC)
        assert "(it is 'a b')" in shown.message
        moves = condition(decision, Condition.PROGRESSING)
        assert moves
        assert moves.status == str(there)
        assert notices(decision) == [Reason.INVALID_SPEC]
        again = decided(after(observed, decision, *pods))
        assert (again.status, again.notices) == (status, ())
        mended = look(*pods, status=status, heartbeat=beat())
        assert decided(mended).status.phase is (Phase.RUNNING if there else Phase.RESTARTING)

    def test_a_job_that_is_being_deleted_is_launched_no_more(self) -> None:
        for observed in (look(), look(exited(75), status=running())):
            decision = decided(deleting(observed))
            assert decision.actions == ()
            assert decided(deleting(after(observed, decision))).status == decision.status

    def test_an_image_that_cannot_be_pulled_is_named(self) -> None:
        waiting = pod(
            phase="Pending", started=False, waiting=Waiting("ImagePullBackOff", "not found")
        )
        first = look()
        observed = after(first, decided(first), waiting)
        decision = decided(observed)
        shown = condition(decision, Condition.RUNNING)
        assert shown
        assert shown.reason is Reason.IMAGE_NOT_PULLABLE
        assert "trainer:1" in shown.message
        assert notices(decision) == [Reason.IMAGE_NOT_PULLABLE]
        reworded = pod(phase="Pending", started=False, waiting=Waiting("ErrImagePull", "again"))
        assert decided(after(observed, decision, reworded)).notices == ()


def deleting(observed: Observed, **fields: bool) -> Observed:
    """Return a look at the job after its deletion, while a finalizer keeps it."""
    return replace(observed, job=replace(observed.job, deleting=True, **fields))


class TestDeletion:
    """When somebody deletes the job, and a finalizer of somebody else's keeps it in sight."""

    def test_its_pod_is_stopped_and_seen_to_its_end(self) -> None:
        trains = look(pod(), status=running(), heartbeat=beat(12))
        asked = decided(deleting(trains))
        assert deleted(asked) == ["pod-1"]
        stopping = pod(deleting=True, grace_seconds=60)
        waits = decided(deleting(after(trains, asked, stopping)))
        assert waits.status.attempt
        assert waits.actions == ()
        last = beat(15, commit=commit(15), final=final(75, Reason.TRAINER_PREEMPTED))
        over = decided(deleting(after(trains, waits, heartbeat=last)))
        assert over.actions == ()
        (attempt,) = over.status.attempts
        assert (attempt.cause, attempt.reason) == (Cause.SUSPENDED, Reason.JOB_DELETED)
        assert over.status.last_commit == commit(15)
        assert (over.status.phase, over.status.restarts) == (Phase.PENDING, Restarts())
        for kind in (Condition.RUNNING, Condition.PROGRESSING):
            shown = condition(over, kind)
            assert shown
            assert (shown.status, shown.reason) == ("False", Reason.JOB_DELETED)

    @pytest.mark.parametrize("silence", [DEAD, Silence(progress=10_000)])
    def test_one_that_dies_meanwhile_is_not_replaced(self, silence: Silence) -> None:
        going = pod(deleting=True, grace_seconds=60)
        observed = look(going, status=running(), heartbeat=beat(), silence=silence)
        assert created(decided(deleting(observed))) == []

    def test_what_its_end_is_told_is_the_end(self) -> None:
        done = look(exited(0, DONE), status=running(), heartbeat=beat(100, final=DONE))
        assert decided(deleting(done)).status.phase is Phase.COMPLETED

    def test_a_suspended_one_stays_suspended_and_waits_for_no_pause(self) -> None:
        status = JobStatus(phase=Phase.SUSPENDED, next_attempt_time=NOW + timedelta(seconds=60))
        decision = decided(deleting(look(status=status, spec=spec(runPolicy={"suspend": True}))))
        assert (decision.status.phase, decision.status.next_attempt_time) == (Phase.SUSPENDED, None)
        assert decision.requeue_after is None

    def test_a_finished_one_is_not_deleted_again(self) -> None:
        over = spec(runPolicy={"ttlSecondsAfterFinished": 60})
        status = JobStatus(phase=Phase.COMPLETED, completion_time=NOW - timedelta(seconds=90))
        assert decided(look(status=status, spec=over)).actions
        decision = decided(deleting(look(status=status, spec=over)))
        assert (decision.actions, decision.requeue_after) == ((), None)

    @pytest.mark.parametrize("pods", [(pod(),), ()])
    def test_whose_pod_is_to_be_kept_keeps_it(self, pods: tuple[Pod, ...]) -> None:
        """`kubectl delete --cascade=orphan`: its pods are no longer its own."""
        observed = look(*pods, status=running())
        decision = decided(deleting(observed, orphans=True))
        assert (decision.status, decision.actions) == (observed.job.status, ())


class TestRunning:
    """While it trains."""

    def test_a_lease_that_somebody_deleted_is_made_again(self) -> None:
        observed = look(pod(), status=running(), silence=Silence(heartbeat=5), lease_found=False)
        decision = decided(observed)
        assert decision.status == observed.job.status
        assert [type(action) for action in decision.actions] == [EnsureObjects]

    def test_the_first_beat_of_a_training_makes_the_job_running(self) -> None:
        first = look()
        started = decided(after(first, decided(first), pod()))
        observed = after(first, started, pod(), heartbeat=beat(step=0))
        decision = decided(observed)
        assert decision.status.phase is Phase.RUNNING
        assert decision.status.attempt
        assert decision.status.attempt.running_time == NOW
        shown = condition(decision, Condition.RUNNING)
        assert shown
        assert shown.status == "True"
        assert notices(decision) == [Reason.TRAINING]
        assert decided(after(observed, decision, pod(), since_mirrored=0)).status == decision.status

    def test_a_starting_trainer_does_not_move_the_position_back_to_zero(self) -> None:
        status = running(2, position=beat(50).position, progress="50%")
        starting = beat(step=0, attempt=2, phase=TrainerPhase.RESTORING)
        decision = decided(look(pod(2), status=status, heartbeat=starting))
        assert decision.status.position == status.position

    def test_progress_is_the_share_of_all_steps(self) -> None:
        decision = decided(look(pod(), status=running(), heartbeat=beat(42)))
        assert decision.status.progress == "42%"
        assert decision.mirrored

    def test_how_the_position_is_kept_and_why_stays_in_status(self) -> None:
        beats = beat(42, strategy="replay", strategy_message="the source cannot be saved")
        told = decided(look(pod(), status=running(), heartbeat=beats)).status
        later = decided(look(pod(), status=told, heartbeat=beat(99))).status
        assert (later.strategy, later.strategy_message) == ("replay", "the source cannot be saved")

    def test_a_position_is_mirrored_at_most_every_ten_seconds(self) -> None:
        observed = look(pod(), status=running(), heartbeat=beat(42), since_mirrored=4)
        decision = decided(observed)
        assert decision.status == observed.job.status
        assert decision.requeue_after == 6

    def test_a_new_commit_is_no_reason_to_write_more_often(self) -> None:
        beats = beat(42, commit=commit(40))
        decision = decided(look(pod(), status=running(), heartbeat=beats, since_mirrored=4))
        assert decision.status.last_commit is None
        assert decision.requeue_after == 6
        later = decided(look(pod(), status=running(), heartbeat=beats, since_mirrored=10))
        assert later.status.last_commit == commit(40)

    def test_an_attempt_that_ends_leaves_its_newest_commit_in_status(self) -> None:
        beats = beat(42, commit=commit(40))
        ended = exited(137, attempt=1)
        decision = decided(look(ended, status=running(), heartbeat=beats, since_mirrored=1))
        assert decision.status.last_commit == commit(40)

    def test_the_beat_of_an_older_attempt_says_nothing(self) -> None:
        old = beat(90, attempt=1, final=DONE)
        observed = look(pod(2), status=running(2), heartbeat=old)
        assert decided(observed).status == observed.job.status

    def test_a_warning_of_the_trainer_becomes_a_condition_and_one_event(self) -> None:
        warning = final(0, Reason.COMMIT_SKIPPED, "commit at step 20 was skipped: the disk is full")
        observed = look(pod(), status=running(), heartbeat=beat(20, warning=warning))
        decision = decided(observed)
        assert notices(decision) == [Reason.COMMIT_SKIPPED]
        shown = condition(decision, Condition.RUNNING)
        assert shown
        assert "the disk is full" in shown.message
        assert decided(after(observed, decision, pod())).notices == ()

    def test_what_a_warning_says_is_told_as_often_as_a_step_and_by_one_event(self) -> None:
        """One commit after the other is skipped; now and then one succeeds."""
        first = look(pod(), status=running(), heartbeat=skipped(20))
        told = decided(first)
        assert notices(told) == [Reason.COMMIT_SKIPPED]
        for soon in (skipped(30), beat(30)):
            look_soon = after(first, told, pod(), heartbeat=soon, since_mirrored=9.5)
            assert decided(look_soon).status == told.status
            assert decided(look_soon).notices == ()
        later = after(first, told, pod(), heartbeat=skipped(40), since_mirrored=10)
        again = decided(later)
        shown = condition(again, Condition.RUNNING)
        assert shown
        assert "step 40" in shown.message
        assert notices(again) == []
        over = decided(after(later, again, pod(), heartbeat=beat(50)))
        shown = condition(over, Condition.RUNNING)
        assert shown
        assert "CommitSkipped" not in shown.message
        (once_more,) = decided(after(later, over, pod(), heartbeat=skipped(60))).notices
        names = {notice.object_name("job", "uid") for notice in (*told.notices, once_more)}
        assert len(names) == 1

    def test_a_warning_goes_along_with_a_write_that_is_due_anyway(self) -> None:
        observed = look(pod(), status=running(), heartbeat=skipped(20), since_mirrored=1)
        changed = replace(observed, job=replace(observed.job, generation=2))
        assert notices(decided(changed)) == [Reason.COMMIT_SKIPPED]


class TestPreemption:
    """When the cluster takes the pod away."""

    def test_the_next_attempt_follows_in_the_same_decision(self) -> None:
        gone = look(status=running(last_commit=commit(40)), heartbeat=beat(41, commit=commit(40)))
        decision = decided(gone)
        assert created(decision) == ["job-2-0"]
        assert decision.status.restarts == Restarts(preempted=1, total=1)
        assert decision.status.attempts[0].cause is Cause.PREEMPTED
        assert (decision.status.attempts[0].last_step, decision.status.attempts[0].first_step) == (
            41,
            0,
        )
        assert decision.status.phase is Phase.RESTARTING
        assert notices(decision) == [Reason.POD_DELETED]
        assert "Attempt 2 starts now from the commit of step 40" in decision.notices[0].message

    def test_a_terminating_pod_is_waited_for_while_it_may_still_commit(self) -> None:
        stopping = pod(deleting=True, grace_seconds=60)
        waited = look(stopping, status=running(), silence=Silence(terminating=64))
        decision = decided(waited)
        assert created(decision) == []
        assert decision.requeue_after
        assert decision.requeue_after <= 1

    def test_but_not_longer_than_its_grace_period_and_a_moment(self) -> None:
        stopping = pod(deleting=True, grace_seconds=60)
        overdue = look(stopping, status=running(), silence=Silence(terminating=65))
        assert created(decided(overdue)) == ["job-2-0"]

    def test_one_without_a_node_costs_nothing_however_long_a_finalizer_keeps_it(self) -> None:
        """A queue such as Kueue deletes gated pods that carry a finalizer of its own."""
        first = look()
        gated = pod(node=None, phase="Pending", started=False, deleting=True)
        held = after(first, decided(first), gated, silence=Silence(terminating=50))
        decision = decided(held)
        attempt = decision.status.attempt
        assert attempt
        assert (attempt.number, attempt.pod_uid) == (1, None)
        assert decision.actions == ()
        told = condition(decision, Condition.PROGRESSING)
        assert told
        assert told.status == "True"
        late = decided(replace(held, silence=Silence(terminating=60)))
        told = condition(late, Condition.PROGRESSING)
        assert told
        assert (told.status, told.reason) == ("False", Reason.WAITING_FOR_PODS)
        assert "finalizers keeps it" in told.message
        again = decided(after(held, late))
        assert created(again) == ["job-1-0"]
        assert (again.status.restarts, again.status.attempts) == (Restarts(), [])

    @pytest.mark.parametrize(
        ("gone", "reason"),
        [
            (pod(deleting=True, disruption=Waiting("EvictionByEvictionAPI")), Reason.EVICTED),
            (pod(phase="Pending", started=False), Reason.POD_DELETED),
        ],
        ids=["evicted", "deleted by force as it starts"],
    )
    def test_one_that_went_before_it_was_written_down_has_had_its_attempt(
        self, gone: Pod, reason: Reason
    ) -> None:
        first = look()
        decision = decided(after(first, decided(first), gone=gone))
        (ended,) = decision.status.attempts
        assert (ended.number, ended.reason, ended.node_name) == (1, reason, NODE)
        assert created(decision) == ["job-2-0"]

    def test_but_one_that_went_before_it_had_a_node_has_not(self) -> None:
        first = look()
        waiting = pod(node=None, phase="Pending", started=False)
        decision = decided(after(first, decided(first), gone=waiting))
        assert created(decision) == ["job-1-0"]
        assert decision.status.attempts == []

    def test_and_not_on_a_dead_node(self) -> None:
        stopping = pod(deleting=True, grace_seconds=60)
        dead = look(stopping, status=running(), heartbeat=beat(), silence=DEAD)
        assert created(decided(dead)) == ["job-2-0"]

    def test_a_dead_node_is_replaced_its_pod_deleted_and_the_node_avoided(self) -> None:
        decision = decided(look(pod(), status=running(), heartbeat=beat(), silence=DEAD))
        assert created(decision) == ["job-2-0"]
        assert deleted(decision) == ["pod-1"]
        assert decision.status.attempts[0].reason is Reason.NODE_LOST
        (manifest,) = [a.manifest for a in decision.actions if hasattr(a, "manifest")]
        assert NODE in str(manifest["spec"]["affinity"])

    @pytest.mark.parametrize(
        "silence",
        [
            Silence(heartbeat=11.9, node_lease=60),
            Silence(heartbeat=60, node_lease=11.9),
            Silence(heartbeat=11.9, node_gone=True),
        ],
    )
    def test_one_silence_alone_is_no_death(self, silence: Silence) -> None:
        decision = decided(look(pod(), status=running(), silence=silence))
        assert decision.actions == ()
        assert decision.requeue_after

    def test_a_node_object_that_is_gone_needs_no_second_silence(self) -> None:
        silence = Silence(heartbeat=12, node_gone=True)
        assert created(decided(look(pod(), status=running(), silence=silence))) == ["job-2-0"]

    @pytest.mark.parametrize(
        "silence", [Silence(heartbeat=3, node_lease=8), Silence(heartbeat=3, node_gone=True)]
    )
    def test_the_operator_looks_again_when_the_silence_can_become_a_death(
        self, silence: Silence
    ) -> None:
        decision = decided(look(pod(), status=running(), silence=silence, since_mirrored=0))
        assert decision.requeue_after == 9

    def test_a_node_must_be_silent_for_longer_before_its_trainer_was_heard(self) -> None:
        """Nothing but its Lease vouches for it, and a kubelet may renew that late."""
        late = Silence(heartbeat=40, node_lease=13.5)
        fresh = pod(phase="Pending", started=False)
        decision = decided(look(fresh, status=starting(), silence=late))
        assert created(decision) == []
        assert decision.requeue_after == 0.5
        dead = replace(late, node_lease=14.0)
        assert created(decided(look(fresh, status=starting(), silence=dead))) == ["job-2-0"]
        assert created(decided(look(pod(), status=running(), heartbeat=beat(), silence=late)))

    def test_a_pod_that_a_stranger_put_in_its_place_is_not_the_attempt(self) -> None:
        decision = decided(look(pod(uid="another"), status=running()))
        assert created(decision) == ["job-2-0"]
        assert deleted(decision) == ["another"]

    def test_attempts_without_a_new_commit_end_the_job(self) -> None:
        status = running(
            3,
            restarts=Restarts(preempted=2, total=2, no_progress=2),
            attempts=[ended(1), ended(2)],
        )
        decision = decided(look(status=status))
        assert decision.status.phase is Phase.FAILED
        failed = condition(decision, Condition.FAILED)
        assert failed
        assert failed.reason is Reason.NO_PROGRESS
        assert created(decision) == []

    def test_a_shard_of_the_datasets_cache_is_progress_and_reading_it_is_none(self) -> None:
        status = running(
            3,
            restarts=Restarts(preempted=2, total=2, no_progress=2),
            attempts=[ended(1), ended(2)],
        )
        for shards, relaunched in ((1, ["job-4-0"]), (0, [])):
            cache = CacheProgress(examples=100, shards=shards)
            found = beat(0, attempt=3, phase=TrainerPhase.STARTING, cache=cache)
            assert created(decided(look(status=status, heartbeat=found))) == relaunched

    def test_a_commit_that_only_its_successor_could_report_was_progress(self) -> None:
        status = running(
            3,
            restarts=Restarts(preempted=2, total=2, no_progress=2),
            attempts=[ended(1, step=10), ended(2, step=10)],
            last_commit=commit(10),
        )
        found = beat(20, attempt=3, commit=commit(20, 2), started_from=commit(20, 2))
        decision = decided(look(status=status, heartbeat=found))
        assert decision.status.restarts.no_progress == 0
        assert created(decision) == ["job-4-0"]

    def test_pods_that_never_start_are_tried_ever_more_slowly(self) -> None:
        refused = pod(3, phase="Failed", reason="UnexpectedAdmissionError", started=False)
        used = Restarts(preempted=2, never_started=2, total=2)
        status = starting(3, attempts=[ended(1), ended(2)], restarts=used)
        decision = decided(look(refused, status=status))
        assert created(decision) == []
        assert pause(decision) == pytest.approx(12.5, abs=2.5)

    @pytest.mark.parametrize("no_progress", [0, 2, 10, 50])
    def test_their_pauses_grow_whatever_came_before(self, no_progress: int) -> None:
        patient = spec(failurePolicy={"maxNoProgressRestarts": 100})
        before = max(no_progress, 1)
        status = starting(
            before + 1,
            attempts=[ended(n) for n in range(1, before + 1)][-10:],
            restarts=Restarts(preempted=before, no_progress=no_progress, total=before),
        )
        pauses = []
        for number in range(before + 1, before + 31):
            refused = pod(number, phase="Failed", reason="OutOfcpu", started=False)
            decision = decided(look(refused, status=status, spec=patient))
            pauses.append(pause(decision))
            attempt = starting(number + 1).attempt
            status = decision.status.model_copy(
                update={"attempt": attempt, "next_attempt_time": None}
            )
        assert pauses[:2] == [0, 0]
        assert all(
            backoff(n) <= paused <= 1.5 * backoff(n) for n, paused in enumerate(pauses[2:], 1)
        )
        started = decided(look(exited(75, attempt=number + 1), status=status, spec=patient))
        assert started.status.restarts.never_started == pause(started) == 0

    def test_one_that_vanished_before_its_trainer_spoke_had_not_started(self) -> None:
        status = starting(1)
        for number in (1, 2, 3):
            decision = decided(look(status=status))
            attempt = starting(number + 1).attempt
            status = decision.status.model_copy(update={"attempt": attempt})
        assert not decision.status.phase.final
        restarts = decision.status.restarts
        assert (restarts.never_started, restarts.no_progress) == (3, 0)
        assert created(decision) == []
        assert pause(decision) == pytest.approx(12.5, abs=2.5)

    @pytest.mark.parametrize("heard", [running(1), starting(1)])
    def test_one_that_vanished_after_its_trainer_spoke_had(self, heard: JobStatus) -> None:
        spoken = None if heard.attempt and heard.attempt.running_time else beat(0)
        restarts = decided(look(status=heard, heartbeat=spoken)).status.restarts
        assert (restarts.never_started, restarts.no_progress) == (0, 1)


class TestFailure:
    """When the program is to blame."""

    def test_a_failure_of_the_program_is_retried_after_a_pause(self) -> None:
        decision = decided(look(exited(1, FAILED), status=running()))
        assert created(decision) == []
        wait = pause(decision)
        assert wait == pytest.approx(12.5, abs=2.5)
        assert decision.requeue_after == wait
        assert decision.status.restarts == Restarts(user_error=1, total=1)
        shown = condition(decision, Condition.RESTARTING)
        assert shown
        assert "NaN" in shown.message
        later = after(look(exited(1, FAILED)), decision, exited(1, FAILED))
        assert created(decided(later, seconds=wait - 0.1)) == []
        again = decided(later, seconds=wait)
        assert created(again) == ["job-2-0"]
        assert notices(again) == [Reason.ATTEMPT_LAUNCHED]

    def test_the_limit_ends_the_job_with_the_programs_words(self) -> None:
        status = running(4, restarts=Restarts(user_error=2, hung=1, total=3))
        decision = decided(look(exited(1, FAILED, attempt=4, uid="pod-4"), status=status))
        failed = condition(decision, Condition.FAILED)
        assert failed
        assert failed.reason is Reason.BACKOFF_LIMIT_EXCEEDED
        assert "NaN" in failed.message
        assert decision.status.completion_time == NOW

    def test_what_no_retry_can_help_ends_the_job_at_once(self) -> None:
        said = final(ExitCode.PERMANENT, Reason.PIPELINE_NOT_RESUMABLE, "unseeded shuffle")
        decision = decided(look(exited(78, said), status=running()))
        failed = condition(decision, Condition.FAILED)
        assert failed
        assert (failed.reason, failed.message) == (
            Reason.PIPELINE_NOT_RESUMABLE,
            "unseeded shuffle",
        )

    def test_a_trainer_that_finished_but_does_not_exit_is_complete(self) -> None:
        still = Silence(progress=1800)
        done = beat(100, phase=TrainerPhase.FINISHED, final=DONE)
        decision = decided(look(pod(), status=running(), heartbeat=done, silence=still))
        assert decision.status.phase is Phase.COMPLETED

    @pytest.mark.parametrize(
        ("said", "cause"),
        [
            (final(ExitCode.USER_ERROR, Reason.BUILDER_FAILED), Cause.USER_ERROR),
            (final(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED), Cause.PREEMPTED),
        ],
    )
    def test_a_trainer_that_said_how_it_ended_is_believed_though_it_does_not_exit(
        self, said: FinalRecord, cause: Cause
    ) -> None:
        still = Silence(progress=1800)
        last = beat(100, phase=TrainerPhase.FINISHED, final=said)
        decision = decided(look(pod(), status=running(), heartbeat=last, silence=still))
        (attempt,) = decision.status.attempts
        assert (attempt.cause, attempt.reason, attempt.message) == (
            cause,
            said.reason,
            "said the trainer",
        )
        assert deleted(decision) == ["pod-1"]

    def test_out_of_time_fails_the_job_and_stops_its_pod(self) -> None:
        limited = spec(runPolicy={"activeDeadlineSeconds": 100})
        decision = decided(look(pod(), status=running(), spec=limited))
        failed = condition(decision, Condition.FAILED)
        assert failed
        assert failed.reason is Reason.DEADLINE_EXCEEDED
        assert deleted(decision) == ["pod-1"]

    def test_complete_in_the_last_moment_is_complete(self) -> None:
        limited = spec(runPolicy={"activeDeadlineSeconds": 100})
        decision = decided(look(exited(0, DONE), status=running(), spec=limited))
        assert decision.status.phase is Phase.COMPLETED


class TestEnd:
    """When there is nothing left to do."""

    def test_complete_says_so_everywhere(self) -> None:
        decision = decided(look(exited(0, DONE), status=running(), heartbeat=beat(100)))
        assert decision.status.phase is Phase.COMPLETED
        assert decision.status.progress == "100%"
        assert decision.status.attempt is None
        assert [c.type for c in decision.status.conditions if c.status == "True"] == [
            Condition.COMPLETE
        ]
        assert notices(decision) == [Reason.COMPLETED]

    def test_a_finished_job_never_moves_again(self) -> None:
        finished = JobStatus(phase=Phase.FAILED, completion_time=NOW, observed_generation=1)
        decision = decided(look(pod(), status=finished))
        assert decision.status == finished
        assert deleted(decision) == ["pod-1"]

    def test_what_it_commits_while_its_pod_goes_is_told(self) -> None:
        late = spec(runPolicy={"activeDeadlineSeconds": 100})
        observed = look(pod(), status=running(), spec=late, heartbeat=beat(15))
        failed = decided(observed)
        assert deleted(failed) == ["pod-1"]
        assert failed.status.last_commit is None
        newest = commit(20)
        said = beat(20, phase=TrainerPhase.FINISHED, commit=newest, commits=[newest.id])
        going = after(observed, failed, pod(deleting=True), heartbeat=said)
        told = decided(going, seconds=5)
        assert (told.status.last_commit, told.status.commits) == (newest, [newest.id])
        assert told.status.position == said.position
        assert told.status.progress == "20%"
        assert (told.status.phase, told.status.conditions) == (
            failed.status.phase,
            failed.status.conditions,
        )
        (ended,), (before,) = told.status.attempts, failed.status.attempts
        assert (ended.committed_step, ended.last_step) == (20, 20)
        assert (ended.cause, ended.end_time, ended.time) == (
            before.cause,
            before.end_time,
            before.time,
        )
        assert told.actions == told.notices == ()
        assert decided(after(going, told), seconds=9).status == told.status

    def test_a_beat_of_another_attempt_changes_nothing_of_it(self) -> None:
        finished = JobStatus(
            phase=Phase.FAILED, completion_time=NOW, observed_generation=1, attempts=[ended(2)]
        )
        observed = look(status=finished, heartbeat=beat(20, commit=commit(20)))
        assert decided(observed).status == finished

    def test_it_is_deleted_when_its_time_to_live_is_over(self) -> None:
        finished = JobStatus(phase=Phase.COMPLETED, completion_time=NOW, observed_generation=1)
        kept = look(status=finished, spec=spec(runPolicy={"ttlSecondsAfterFinished": 60}))
        assert decided(kept, seconds=59).requeue_after == 1
        assert decided(kept, seconds=59).actions == ()
        assert decided(kept, seconds=60).actions == (DeleteJob(),)

    def test_the_newest_ended_pods_stay_for_their_logs(self) -> None:
        status = running(5, attempts=[ended(n) for n in (1, 2, 3, 4)])
        old = [exited(1, attempt=n, uid=f"pod-{n}") for n in (1, 2, 3, 4)]
        assert deleted(decided(look(*old, pod(5), status=status))) == ["pod-1", "pod-2"]

    @pytest.mark.parametrize("end", [final(1, Reason.TRAINER_FAILED), DONE], ids=["bad", "good"])
    def test_one_whose_companions_run_on_goes_as_it_holds_node_and_claim(
        self, end: FinalRecord
    ) -> None:
        held = replace(exited(end.exit_code, end), phase="Running", companions=True)
        observed = look(held, status=running())
        decision = decided(observed)
        assert decision.status.attempt is None
        assert deleted(decision) == ["pod-1"]
        going = after(observed, decision, replace(held, deleting=True))
        assert deleted(decided(going)) == []

    def test_one_that_has_ended_but_for_its_phase_stays(self) -> None:
        soon = replace(exited(1, FAILED), phase="Running")
        assert deleted(decided(look(soon, status=running()))) == []


class TestSuspension:
    """When the user asks for a pause."""

    PAUSED = spec(runPolicy={"suspend": True})

    def test_the_pod_is_asked_to_stop_and_waited_for(self) -> None:
        decision = decided(look(pod(), status=running(), spec=self.PAUSED))
        assert deleted(decision) == ["pod-1"]
        assert decision.status.attempt
        assert decision.status.phase is Phase.RUNNING

    def test_once_it_has_gone_the_job_is_suspended_at_no_cost(self) -> None:
        observed = look(status=running(), spec=self.PAUSED)
        decision = decided(observed)
        assert decision.status.phase is Phase.SUSPENDED
        assert decision.status.attempts[0].cause is Cause.SUSPENDED
        assert decision.status.restarts == Restarts()
        assert created(decision) == []
        assert decided(after(observed, decision)).status == decision.status

    def test_a_suspended_job_goes_on_with_the_next_attempt(self) -> None:
        paused = look(status=running(), spec=self.PAUSED)
        resumed = after(look(), decided(paused))
        decision = decided(resumed)
        assert created(decision) == ["job-2-0"]
        assert decision.status.phase is Phase.STARTING
        shown = condition(decision, Condition.SUSPENDED)
        assert shown
        assert (shown.status, shown.reason) == ("False", Reason.RESUMED)
        assert decision.status.restarts.total == 0

    def test_it_is_said_from_where_it_will_go_on_and_what_was_not_committed(self) -> None:
        status = running(last_commit=commit(40), position=Position(epoch=0, step=45))
        paused = decided(look(status=status, spec=self.PAUSED))
        shown = condition(paused, Condition.SUSPENDED)
        assert shown
        assert "starts from the commit of step 40. The 5 steps after it" in shown.message
        new = condition(decided(look(spec=self.PAUSED)), Condition.SUSPENDED)
        assert new
        assert "from step 0, since there is no commit" in new.message

    def test_a_job_that_goes_on_does_not_look_suspended_while_it_waits(self) -> None:
        missing = Problem(Reason.CLAIM_NOT_FOUND, "no claim c")
        paused = decided(look(status=running(), spec=self.PAUSED))
        decision = decided(after(look(problems=(missing,)), paused))
        shown = condition(decision, Condition.RUNNING)
        assert shown
        assert (decision.status.phase, shown.reason) == (Phase.PENDING, Reason.CLAIM_NOT_FOUND)

    def test_what_it_committed_before_it_rested_is_progress(self) -> None:
        idle = Restarts(preempted=2, no_progress=2, total=2)
        status = running(3, attempts=[ended(1), ended(2)], restarts=idle)
        last = beat(6, 3, commit=commit(6, 3))
        paused = decided(look(status=status, heartbeat=last, spec=self.PAUSED))
        assert paused.status.restarts == Restarts(preempted=2, no_progress=0, total=2)

    def test_a_pause_that_is_over_is_told_no_more(self) -> None:
        crashed = look(exited(1), status=running())
        waits = after(crashed, decided(crashed))
        due = pause(decided(crashed))
        paused = after(waits, decided(replace(waits, job=replace(waits.job, spec=self.PAUSED))))
        rests = replace(paused, job=replace(paused.job, spec=self.PAUSED))
        before = decided(rests, seconds=due - 1)
        assert before.status.next_attempt_time
        assert before.requeue_after == pytest.approx(1)
        over = decided(rests, seconds=due)
        assert (over.status.next_attempt_time, over.requeue_after) == (None, None)
        for look_ in (paused, after(paused, over)):
            resumed = decided(look_, seconds=3600)
            assert created(resumed) == ["job-2-0"]
            assert not [c for c in resumed.status.conditions if " in -" in c.message]

    def test_a_clock_that_is_set_back_makes_no_pause_longer(self) -> None:
        crashed = look(exited(1), status=running())
        waits = after(crashed, decided(crashed))
        assert created(decided(waits, seconds=5)) == []
        assert created(decided(waits, seconds=-600)) == ["job-2-0"]

    def test_nor_while_it_backs_off(self) -> None:
        crashed = decided(look(exited(1), status=running()))
        paused = decided(after(look(spec=self.PAUSED), crashed))
        assert paused.status.phase is Phase.SUSPENDED
        decision = decided(after(look(), paused))
        shown = condition(decision, Condition.RUNNING)
        assert shown
        assert (decision.status.phase, shown.reason) == (Phase.RESTARTING, Reason.RESUMED)
        assert "The next attempt starts in" in shown.message
        assert created(decision) == []

    def test_a_job_may_be_born_suspended(self) -> None:
        decision = decided(look(spec=self.PAUSED))
        assert decision.status.phase is Phase.SUSPENDED
        assert decision.actions == ()

    def test_a_job_that_is_out_of_time_while_it_rests_rests_no_more(self) -> None:
        limited = spec(runPolicy={"suspend": True, "activeDeadlineSeconds": 100})
        paused = look(status=decided(look(status=running(), spec=self.PAUSED)).status)
        decision = decided(replace(paused, job=replace(paused.job, spec=limited)))
        assert decision.status.phase is Phase.FAILED
        shown = condition(decision, Condition.SUSPENDED)
        assert shown
        assert (shown.status, shown.reason) == ("False", Reason.DEADLINE_EXCEEDED)

    def test_complete_wins_over_suspended(self) -> None:
        decision = decided(look(exited(0, DONE), status=running(), spec=self.PAUSED))
        assert decision.status.phase is Phase.COMPLETED
