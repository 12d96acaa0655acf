"""Going back to a chosen commit and forking: what the operator does, and that it does it once."""

import json
from dataclasses import replace
from typing import Any

import pytest
from rtj_api.heartbeat import CommitRef, Heartbeat, TrainerPhase
from rtj_api.launch import TrainerConfig
from rtj_api.names import CONFIG_ENV, Cause, Condition, Phase, Reason
from rtj_api.restore import ForkStatus, RestoreAnswer, RestoreOutcome
from rtj_api.spec import JobSpec
from rtj_api.status import JobStatus
from rtj_operator.cluster import JOBS
from rtj_operator.core.decision import CreatePod, Decision
from rtj_operator.core.observed import Observed, Pod, Problem
from rtj_operator.fork_source import find_fork

from tests.model.memory_cluster import MemoryCluster
from tests.model.world import World
from tests.unit.operator_looks import (
    DONE,
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
    pod,
    running,
    spec,
)

pytestmark = pytest.mark.unit

OLD, NEW = commit(20), commit(60)
KEPT = [found.id for found in (NEW, commit(40), OLD)]


def going_back(to: str = OLD.id, **fields: Any) -> JobSpec:
    return spec(restore={"fromCommit": to}, **fields)


def trains(step: int = 60, attempt: int = 1, **fields: Any) -> Heartbeat:
    return beat(step, attempt, **{"commit": NEW, "commits": KEPT, **fields})


def asked(**fields: Any) -> Observed:
    """Return a look at a job that trains, and whose user has just set spec.restore."""
    return look(
        pod(),
        **{
            "status": running(last_commit=NEW, commits=KEPT),
            "spec": going_back(),
            "heartbeat": trains(),
            **fields,
        },
    )


def told(decision: Decision) -> TrainerConfig:
    """Return what the pod that a decision creates is told."""
    (made,) = [a.manifest for a in decision.actions if isinstance(a, CreatePod)]
    env = made["spec"]["containers"][0]["env"]
    text = next(e["value"] for e in env if e["name"] == CONFIG_ENV)
    return TrainerConfig.model_validate_json(text.replace("$$", "$"))


def stopped_attempt(observed: Observed, decision: Decision, **fields: Any) -> Observed:
    """Return the look after the attempt's pod has gone."""
    return after(observed, decision, **{"heartbeat": trains(62), **fields})


class TestARequest:
    """From spec.restore to the attempt that goes back."""

    def test_stops_the_attempt_gracefully_and_says_how_far_it_goes_back(self) -> None:
        decision = decided(asked())
        assert deleted(decision) == ["pod-1"]
        assert created(decision) == []
        assert notices(decision) == [Reason.RESTORE_REQUESTED]
        assert decision.notices[0].message == (
            f"Attempt 1 is stopped, and the next one goes on from commit {OLD.id}, "
            "40 steps before the newest."
        )
        restored = condition(decision, Condition.RESTORED)
        assert restored
        assert (restored.status, restored.reason) == ("False", Reason.RESTORE_REQUESTED)

    def test_is_recorded_before_anything_is_done_and_not_taken_twice(self) -> None:
        observed = asked()
        decision = decided(observed)
        assert decision.status.restore
        assert decision.status.restore.after_attempt == 1
        again = decided(after(observed, decision, pod(deleting=True, grace_seconds=60)))
        assert again.status.restore == decision.status.restore
        assert notices(again) == deleted(again) == []

    def test_is_handed_to_the_next_attempt_and_costs_no_budget(self) -> None:
        observed = asked()
        decision = decided(stopped_attempt(observed, decided(observed)))
        ended = decision.status.attempts[-1]
        assert (ended.cause, ended.reason) == (Cause.SUSPENDED, Reason.RESTORE_REQUESTED)
        assert decision.status.restarts.total == 0
        config = told(decision)
        assert config.attempt == 2
        assert config.restore
        assert (config.restore.commit, config.restore.request) == (OLD.id, 1)
        assert config.expected_step == OLD.step, "going back is no loss of a position"
        launched = decision.notices[-1]
        assert launched.message == f"Attempt 2 starts from commit {OLD.id}, as spec.restore says."

    def test_an_attempt_without_a_pod_is_given_up_at_once(self) -> None:
        first = look(spec=spec())
        decided_but_not_made = after(first, decided(first), heartbeat=None)
        job = replace(decided_but_not_made.job, spec=going_back())
        decision = decided(replace(decided_but_not_made, job=job))
        assert created(decision) == ["job-2-0"]

    def test_every_attempt_is_told_until_one_has_answered(self) -> None:
        observed = asked()
        second = stopped_attempt(observed, decided(observed))
        launched = decided(second)
        gone = after(second, launched, heartbeat=beat(0, 2, phase=TrainerPhase.RESTORING))
        third = decided(replace(gone, lease_found=True))
        assert told(third).attempt == 3
        assert told(third).restore == told(launched).restore

    def test_is_done_when_the_trainer_says_so_and_later_attempts_do_not_go_back(self) -> None:
        observed = asked()
        second = stopped_attempt(observed, decided(observed))
        launched = decided(second)
        answer = RestoreAnswer(request=1, reason=Reason.RESTORED)
        said = trains(20, 2, commit=OLD, started_from=OLD, restore=answer)
        trains_again = after(second, launched, pod(2), heartbeat=said)
        decision = decided(trains_again)
        assert decision.status.restore
        assert decision.status.restore.outcome is RestoreOutcome.RESTORED
        assert decision.status.last_commit == OLD
        restored = condition(decision, Condition.RESTORED)
        assert restored
        assert (restored.status, restored.reason) == ("True", Reason.RESTORED)
        assert Reason.RESTORED in notices(decision)
        settled = after(trains_again, decision, pod(2))
        assert deleted(decided(settled)) == []
        assert notices(decided(settled)) == []
        later = decided(after(settled, decided(settled)))
        assert created(later) == ["job-3-0"]
        assert told(later).restore is None
        assert told(later).expected_step == OLD.step

    def test_a_request_for_another_commit_is_another_request(self) -> None:
        status = running(last_commit=NEW, commits=KEPT)
        first = decided(asked(status=status)).status
        observed = asked(spec=going_back(commit(40).id), status=first)
        observed = replace(observed, job=replace(observed.job, generation=7))
        decision = decided(observed)
        assert decision.status.restore
        assert decision.status.restore.request == 7
        assert decision.status.restore.from_commit == commit(40).id

    def test_taken_out_it_is_forgotten_so_that_it_can_be_made_again(self) -> None:
        observed = asked()
        decision = decided(observed)
        out = after(observed, decision, pod())
        withdrawn = decided(replace(out, job=replace(out.job, spec=spec())))
        assert withdrawn.status.restore is None
        assert deleted(withdrawn) == []

    def told_and_withdrawn(self, second: Pod, said: Heartbeat | None) -> Observed:
        """Return a look after attempt 2 was told of the request, and spec.restore taken out."""
        observed = asked()
        waits = stopped_attempt(observed, decided(observed))
        out = after(waits, decided(waits), second, heartbeat=said)
        return replace(out, job=replace(out.job, spec=spec(), generation=2))

    STARTS = beat(0, 2, phase=TrainerPhase.STARTING)

    def test_taken_out_while_an_attempt_may_go_back_it_waits_for_the_answer(self) -> None:
        observed = self.told_and_withdrawn(pod(2), self.STARTS)
        waits = decided(observed)
        assert deleted(waits) == []
        said = condition(waits, Condition.RESTORED)
        assert said
        assert said.message.endswith(f"go back to commit {OLD.id}. It will say whether it has.")
        answer = RestoreAnswer(request=1, reason=Reason.RESTORED)
        back = trains(20, 2, commit=OLD, started_from=OLD, restore=answer)
        told_of = decided(after(observed, waits, pod(2), heartbeat=back))
        restored = condition(told_of, Condition.RESTORED)
        assert restored
        assert (restored.status, restored.reason) == ("True", Reason.RESTORED)
        assert Reason.RESTORED in notices(told_of)
        assert told_of.status.restore is None, "so that it can be made again"

    def test_an_answer_counts_though_the_request_is_taken_out_in_the_same_moment(self) -> None:
        answer = RestoreAnswer(request=1, reason=Reason.RESTORED)
        back = trains(20, 2, commit=OLD, started_from=OLD, restore=answer)
        restored = condition(decided(self.told_and_withdrawn(pod(2), back)), Condition.RESTORED)
        assert restored
        assert restored.status == "True"

    def test_taken_out_it_is_told_to_no_attempt_after_one_that_never_answered(self) -> None:
        observed = self.told_and_withdrawn(pod(2), self.STARTS)
        gone = decided(after(observed, decided(observed)))
        assert told(gone).attempt == 3
        assert told(gone).restore is None
        assert gone.status.restore is None
        said = condition(gone, Condition.RESTORED)
        assert said
        assert "Attempt 2 was launched to go back" in said.message
        assert "ended before it said" in said.message
        assert not any("as spec.restore says" in notice.message for notice in gone.notices)

    @pytest.mark.parametrize(("node", "name"), [("node-a", "job-3-0"), (None, "job-2-0")])
    def test_taken_out_before_its_trainer_ran_the_pod_is_replaced(
        self, node: str | None, name: str
    ) -> None:
        waiting = pod(2, node=node, phase="Pending", started=False)
        observed = self.told_and_withdrawn(waiting, trains(62))
        stopped = decided(observed)
        assert deleted(stopped) == ["pod-2"]
        relaunched = decided(after(observed, stopped))
        assert created(relaunched) == [name]
        assert told(relaunched).restore is None
        assert relaunched.status.restarts.total == 0

    def test_a_suspended_job_goes_back_when_it_is_resumed(self) -> None:
        resting = JobStatus(phase=Phase.SUSPENDED, last_commit=NEW, start_time=None)
        suspended = going_back(runPolicy={"suspend": True})
        noted = decided(look(status=resting, spec=suspended))
        assert created(noted) == []
        assert noted.status.restore
        resumed = look(status=noted.status, spec=going_back())
        assert told(decided(resumed)).restore

    def test_a_request_for_a_commit_that_is_not_there_disturbs_nobody(self) -> None:
        wrong = "000000000021-000001"
        observed = asked(spec=going_back(wrong))
        decision = decided(observed)
        assert deleted(decision) == []
        refused = condition(decision, Condition.RESTORED)
        assert refused
        assert (refused.status, refused.reason) == ("False", Reason.COMMIT_NOT_FOUND)
        assert refused.message == (
            f"spec.restore.fromCommit '{wrong}': this job has no such commit; there are: "
            f"{', '.join(KEPT)}. Training goes on as if it had not been set."
        )
        assert decision.notices[0].severity == "Warning"
        again = after(observed, decision, pod())
        assert deleted(decided(again)) == notices(decided(again)) == []
        later = decided(after(observed, decision))
        assert told(later).restore is None

    def test_what_the_trainer_refuses_is_shown_with_its_words(self) -> None:
        observed = asked()
        second = stopped_attempt(observed, decided(observed))
        answer = RestoreAnswer(request=1, reason=Reason.COMMIT_DAMAGED, message="state.data")
        said = trains(62, 2, restore=answer)
        decision = decided(after(second, decided(second), pod(2), heartbeat=said))
        assert decision.status.restore
        assert decision.status.restore.outcome is RestoreOutcome.REFUSED
        refused = condition(decision, Condition.RESTORED)
        assert refused
        assert (refused.reason, refused.message) == (Reason.COMMIT_DAMAGED, "state.data")

    def test_a_job_that_ends_first_says_that_it_cannot_go_back_any_more(self) -> None:
        observed = asked()
        decision = decided(after(observed, decided(observed), exited(0, DONE)))
        assert decision.status.phase is Phase.COMPLETED
        refused = condition(decision, Condition.RESTORED)
        assert refused
        assert "A finished job cannot go back: create a new one with spec.forkFrom" in (
            refused.message
        )
        assert decided(after(observed, decision, exited(0, DONE))).status == decision.status


class TestAFork:
    """A new job from another job's commit."""

    def test_starts_from_the_uid_that_was_looked_up_and_keeps_it(self) -> None:
        forked = spec(forkFrom={"jobName": "first"})
        observed = look(spec=forked, fork_uid="uid-of-first")
        decision = decided(observed)
        assert decision.status.forked_from == ForkStatus(
            job_name="first", job_uid="uid-of-first", commit="latest"
        )
        config = told(decision)
        assert config.fork_from
        assert (config.fork_from.job_uid, config.fork_from.commit) == ("uid-of-first", "latest")
        assert decision.notices[0].message == "Attempt 1 starts from commit latest of job first."
        renamed = after(observed, decision, fork_uid="uid-of-another")
        assert told(decided(renamed)) == config

    def test_waits_for_the_job_that_it_names(self) -> None:
        problem = Problem(Reason.FORK_SOURCE_NOT_FOUND, "spec.forkFrom.jobName 'first': no")
        decision = decided(look(spec=spec(forkFrom={"jobName": "first"}), problems=(problem,)))
        assert created(decision) == []
        waits = condition(decision, Condition.RUNNING)
        assert waits
        assert waits.reason is Reason.FORK_SOURCE_NOT_FOUND
        assert decision.requeue_after == 10


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"phase": "Running"}, "starts by itself when there is one"),
        ({"phase": "Suspended"}, "starts by itself when there is one"),
        ({"phase": "Failed"}, "none is to be waited for"),
        ({"phase": "Completed"}, "none is to be waited for"),
        ({"phase": "Failed", "lastCommit": {"id": OLD.id}}, None),
    ],
)
async def test_a_fork_says_whether_the_commit_that_it_wants_can_still_come(
    status: dict[str, Any], says: str | None
) -> None:
    api = MemoryCluster()
    source = {"metadata": {"name": "first"}, "spec": {"checkpoint": {"claimName": "work"}}}
    uid = api.put(JOBS.kind, "ns", {**source, "status": status})["metadata"]["uid"]
    forked = spec(forkFrom={"jobName": "first"})
    found = await find_fork(api, look(spec=forked).job, forked)
    if says is None:
        assert found == uid
    else:
        assert isinstance(found, Problem)
        assert says in found.message


class TestAChangeOfTheSpec:
    """What a live attempt has to do with it."""

    def changed(self, *pods: Pod, heartbeat: Heartbeat | None = None, **fields: Any) -> Decision:
        """Decide about an attempt that was launched with the plain spec."""
        first = look()
        observed = after(first, decided(first), *pods, heartbeat=heartbeat)
        job = replace(observed.job, spec=spec(**fields), generation=2)
        return decided(replace(observed, job=job))

    LATER: tuple[dict[str, Any], ...] = (
        {"totalSteps": 200},
        {"checkpoint": {"claimName": "work", "keep": 5}},
        {"checkpoint": {"claimName": "work", "everySteps": 5}},
        {"checkpoint": {"claimName": "work", "everySeconds": 5}},
        {"trainer": {"image": "trainer:2", "gracePeriodSeconds": 60}},
        {"trainer": {"image": "trainer:1", "gracePeriodSeconds": 61}},
        {"trainer": {"image": "trainer:1", "gracePeriodSeconds": 60, "resources": {"a": {}}}},
    )

    @pytest.mark.parametrize("fields", LATER, ids=json.dumps)
    def test_that_an_attempt_was_launched_with_waits_and_the_user_learns_it(
        self, fields: dict[str, Any]
    ) -> None:
        decision = self.changed(pod(), heartbeat=beat(10), **fields)
        assert deleted(decision) == []
        said = condition(decision, Condition.RUNNING)
        assert said
        assert "from the next attempt. To apply it now, delete pod job-1-0" in said.message
        assert Reason.SPEC_CHANGED in notices(decision)
        assert decision.status.attempt
        assert decision.status.attempt.generation == 1
        assert decision.status.observed_generation == 2

    @pytest.mark.parametrize(
        "fields",
        [
            {"runPolicy": {"backoffLimit": 9}},
            {"failurePolicy": {"maxNoProgressRestarts": 9}},
            {"hangPolicy": {"trainingTimeoutSeconds": 99}},
        ],
        ids=json.dumps,
    )
    def test_that_counts_at_once_is_not_said_to_wait(self, fields: dict[str, Any]) -> None:
        decision = self.changed(pod(), heartbeat=beat(10), **fields)
        assert Reason.SPEC_CHANGED not in notices(decision)

    def test_replaces_a_pod_whose_trainer_never_ran(self) -> None:
        stuck = pod(node=None, started=False, phase="Pending")
        fields = self.LATER[4]
        decision = self.changed(stuck, **fields)
        assert deleted(decision) == ["pod-1"]
        first = look()
        gone = after(first, decision)
        job = replace(gone.job, spec=spec(**fields), generation=2)
        relaunched = decided(replace(gone, job=job, pods=()))
        assert created(relaunched) == ["job-1-0"]
        assert relaunched.status.restarts.total == 0
        assert relaunched.status.attempt
        assert relaunched.status.attempt.generation == 2

    @pytest.mark.parametrize("fields", LATER[:4], ids=json.dumps)
    def test_leaves_a_pod_that_queues_for_a_node_its_place(self, fields: dict[str, Any]) -> None:
        queues = pod(node=None, started=False, phase="Pending")
        assert deleted(self.changed(queues, **fields)) == []

    def test_on_a_node_it_is_stopped_first_at_no_cost(self) -> None:
        stuck = pod(started=False, phase="Pending")
        fields = self.LATER[4]
        decision = self.changed(stuck, **fields)
        assert deleted(decision) == ["pod-1"]
        gone = after(look(), decision)
        relaunched = decided(
            replace(gone, job=replace(gone.job, spec=spec(**fields), generation=2))
        )
        assert created(relaunched) == ["job-2-0"]
        assert relaunched.status.restarts.total == 0

    @pytest.mark.parametrize("committed", [None, commit(1)])
    def test_at_no_cost_also_if_its_trainer_begins_before_it_is_asked(
        self, committed: CommitRef | None
    ) -> None:
        budgets = {"maxNoProgressRestarts": 1, "maxDisruptionRestarts": 0}
        wanted = {**self.LATER[4], "failurePolicy": budgets}
        decision = self.changed(pod(started=False, phase="Pending"), **wanted)
        asked = exited(75, final(75, Reason.TRAINER_PREEMPTED), deleting=True)
        begun = beat(1 if committed else 0, commit=committed)
        ended = after(look(), decision, asked, heartbeat=begun)
        job = replace(ended.job, spec=spec(**wanted), generation=2)
        relaunched = decided(replace(ended, job=job))
        assert created(relaunched) == ["job-2-0"]
        (first,) = relaunched.status.attempts
        assert (first.cause, first.reason) == (Cause.SUSPENDED, Reason.SPEC_CHANGED)
        assert relaunched.status.restarts.total == 0
        assert relaunched.status.attempt
        assert relaunched.status.attempt.stop_message is None

    def test_a_job_that_was_made_longer_goes_on_when_its_attempt_reaches_the_old_end(self) -> None:
        first = look()
        launched = decided(first)
        finished = after(first, launched, exited(0, DONE))
        longer = replace(finished, job=replace(finished.job, spec=spec(totalSteps=200)))
        decision = decided(longer)
        assert created(decision) == ["job-2-0"]
        assert told(decision).total_steps == 200
        assert decision.notices[0].message == (
            "Attempt 1 reached 100 steps; the spec says 200 steps now. "
            "Attempt 2 goes on from there."
        )
        assert decided(finished).status.phase is Phase.COMPLETED


@pytest.mark.parametrize("calls", range(1, 15))
def test_an_operator_that_is_killed_at_any_call_goes_back_once(calls: int) -> None:
    world = World()
    start_next(world)
    for _ in range(3):
        train(world)
    chosen = world.volume.commits[0]
    request = world.go_back(chosen.id)
    for step in (world.finish_deletions, lambda: start_next(world), lambda: train(world)):
        world.api.kill_in = calls
        world.turn()
        world.api.kill_in = None
        world.work()
        step()
    for _ in range(2):
        (trainer,) = world.trainers.values()
        world.kill_node(trainer.node)
        world.advance(15)
        start_next(world)
        world.revive_node(trainer.node)
        train(world)
    assert world.volume.went_back == [(request, chosen.id)]
    assert [found.step for found in world.volume.commits] == [5, 10, 15, 10, 15, 20]
    status = world.status()
    assert status.restore
    assert status.restore.outcome is RestoreOutcome.RESTORED
    assert (status.restarts.preempted, status.restarts.total) == (2, 2)
    world.close()


def start_next(world: World) -> None:
    world.work()
    world.schedule()
    world.start_containers()
    world.work()


def train(world: World) -> None:
    (trainer,) = world.trainers.values()
    world.train(trainer, 5)
    world.commit(trainer)
    world.work()
