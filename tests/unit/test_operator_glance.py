"""A job that runs costs the API server no reads, and nothing is done because of old news."""

from collections.abc import Callable
from typing import Any

import pytest
from rtj_api.heartbeat import FinalRecord
from rtj_api.names import ExitCode, Phase, Reason
from rtj_operator.cluster import JOBS, LEASES, NODE_LEASES, NODES, PODS, Key, Manifest
from rtj_operator.parse import parse_pod
from rtj_operator.reconcile import mirror_interval
from rtj_operator.sightings import Sightings

from tests.model.world import FOREIGN, NAMESPACE, World

pytestmark = pytest.mark.unit

OURS = Key("ns", "job")


def train_for(world: World, seconds: int, seconds_per_step: int = 1) -> None:
    (trainer,) = world.trainers.values()
    for _ in range(seconds // seconds_per_step):
        world.train(trainer, 1)
        world.advance(seconds_per_step)


def test_a_job_that_runs_is_shown_without_a_read(world: World, reads: list[str]) -> None:
    train_for(world, 5)
    before, looks = world.status(), world.turns
    reads.clear()
    train_for(world, 30)
    assert reads == []
    assert world.turns > looks
    position = world.status().position
    assert position
    assert before.position
    assert position.step >= before.position.step + 20


@pytest.mark.parametrize("succeeds_every", [1000, 2])
def test_commits_that_fail_one_after_the_other_cost_no_more_than_steps_do(
    world: World, reads: list[str], succeeds_every: int
) -> None:
    """Each warning names another step, and a commit that succeeds takes it back."""
    train_for(world, 15)
    (trainer,) = world.trainers.values()
    written, turns = len(world.statuses), world.turns
    reads.clear()
    for second in range(1, 61):
        text = f"commit at step {trainer.step} was skipped: No space left on device"
        warning = FinalRecord(exit_code=0, reason=Reason.COMMIT_SKIPPED, message=text)
        trainer.warning = warning if second % succeeds_every else None
        train_for(world, 1)
    assert len(world.statuses) - written <= 6
    assert world.turns - turns <= 7
    events = [found for (kind, _, _), found in world.api.objects.items() if kind == "Event"]
    assert len([event for event in events if event["reason"] == Reason.COMMIT_SKIPPED]) == 1
    assert "was skipped" in events[-1]["message"]
    if succeeds_every > 2:
        assert sorted(reads) == ["Lease", "PodList", "ResumableTrainingJob"], "once, for the Event"


def test_but_now_and_then_all_of_it_is_read(world: World, reads: list[str]) -> None:
    train_for(world, 5)
    reads.clear()
    train_for(world, 310, seconds_per_step=10)
    assert sorted(reads) == ["Lease", "PodList", "ResumableTrainingJob"]


def test_news_is_answered_from_a_live_look(world: World, reads: list[str]) -> None:
    train_for(world, 5)
    reads.clear()
    (pod,) = world.pods()
    world.evict(pod)
    world.work()
    assert reads == [], "it stops by itself"
    world.finish_deletions()
    world.work()
    assert reads[:2] == ["Pod", "Lease"]
    assert "ResumableTrainingJob" not in reads, "what is written proves what it was"
    assert "PodList" not in reads, "a list waits for the API server's cache"
    assert [ended.reason for ended in world.status().attempts] == ["Evicted"]


def test_a_pod_that_was_seen_to_end_is_not_read_again(world: World, reads: list[str]) -> None:
    train_for(world, 5)
    (pod,) = world.pods()
    reads.clear()
    world.evict(pod)
    world.end(world.trainers[pod["metadata"]["uid"]], ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED)
    world.work()
    assert reads[:1] == ["Lease"], "it may hold a last word that no watch has told of"
    assert not {"Pod", "PodList", "ResumableTrainingJob"} & set(reads)
    assert [ended.reason for ended in world.status().attempts] == ["Evicted"]


def test_the_end_of_an_earlier_pod_of_the_same_name_is_not_taken_for_that_of_the_pod(
    world: World, reads: list[str]
) -> None:
    train_for(world, 5)
    (pod,) = world.pods()
    earlier = {**pod, "metadata": {**pod["metadata"], "uid": "earlier"}}
    world.watches.tell("delete", PODS.kind, pod)
    reads.clear()
    world.watches.tell("replace", PODS.kind, {**earlier, "status": {"phase": "Failed"}})
    world.work()
    assert "Pod" in reads
    assert world.status().attempts == []


def suspend(world: World) -> None:
    world.set_run_policy(suspend=True)


def delete(world: World) -> None:
    world.delete_job()


def mark(world: World) -> None:
    world.delete_job(FOREIGN)


@pytest.mark.parametrize("change", [suspend, delete, mark])
def test_a_job_that_is_another_than_was_seen_gets_no_pod(
    world: World, reads: list[str], change: Callable[[World], None]
) -> None:
    train_for(world, 5)
    (pod,) = world.pods()
    world.watches.lagging = {JOBS.kind}
    change(world)
    reads.clear()
    world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
    world.turn()
    assert "ResumableTrainingJob" in reads
    assert world.pods() == []
    world.catch_up()
    world.work()
    assert world.pods() == []


def test_that_training_began_is_told_without_a_read_and_in_one_write(
    world: World, reads: list[str]
) -> None:
    train_for(world, 5)
    (pod,) = world.pods()
    world.evict(pod)
    world.finish_deletions()
    world.work()
    reads.clear()
    written = len(world.statuses)
    world.schedule()
    world.start_containers()
    world.work()
    assert reads == []
    assert [status.phase for status in world.statuses[written:]] == [Phase.RUNNING]
    assert any("Attempt 2: Training resumed" in said for said in world.events(Reason.TRAINING))


def test_a_watch_that_lags_behind_moves_no_status_back(world: World) -> None:
    train_for(world, 15)
    world.behind = True
    world.set_run_policy(backoffLimit=7)
    (trainer,) = world.trainers.values()
    world.train(trainer, 4)
    written = len(world.statuses)
    world.turn()
    assert len(world.statuses) == written
    world.catch_up()
    world.work()
    assert world.status().observed_generation == 2


def test_old_news_of_rest_hides_no_job_that_was_resumed_since(world: World) -> None:
    """The operator resumed it before its watch told that it rested; then its pod goes unseen."""
    world.set_run_policy(suspend=True)
    world.work()
    world.watches.lagging = {JOBS.kind}
    world.finish_deletions()
    world.work()
    world.watches.lagging = {JOBS.kind, PODS.kind}
    world.resume()
    world.turn()
    (pod,) = world.pods()
    world.watches.tell_oldest(JOBS.kind)
    world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
    world.list_pods_anew()
    world.work()
    assert len(world.pods()) == 1


@pytest.mark.parametrize(
    ("jobs", "waiting", "seconds"), [(1, 0, 10), (1, 5, 10), (1000, 0, 40), (1000, 5, 400)]
)
def test_steps_are_shown_more_rarely_where_more_is_to_be_done(
    jobs: int, waiting: int, seconds: float
) -> None:
    assert mirror_interval(10, jobs, waiting) == seconds


def raw(version: int, phase: Phase = Phase.RUNNING, **meta: Any) -> Manifest:
    return {
        "metadata": {"uid": "uid", "resourceVersion": str(version), **meta},
        "status": {"phase": phase},
    }


def seen_version(sightings: Sightings) -> str | None:
    found = sightings.of(OURS)
    return found.job["metadata"]["resourceVersion"] if found else None


class TestSightings:
    """Of everything the newest, and only of jobs at work."""

    def test_an_older_object_does_not_replace_a_newer_one(self) -> None:
        sightings = Sightings()
        sightings.job(OURS, raw(10))
        sightings.job(OURS, raw(9))
        assert seen_version(sightings) == "10"

    @pytest.mark.parametrize("phase", [Phase.SUSPENDED, Phase.COMPLETED, Phase.FAILED])
    def test_nothing_is_kept_of_a_job_at_rest(self, phase: Phase) -> None:
        sightings = Sightings()
        sightings.job(OURS, raw(1))
        sightings.job(OURS, raw(2, phase))
        sightings.lease(OURS, raw(3))
        assert seen_version(sightings) is None
        assert len(sightings) == 0

    @pytest.mark.parametrize("phase", [Phase.SUSPENDED, Phase.COMPLETED, Phase.FAILED])
    def test_nothing_is_forgotten_for_an_older_rest(self, phase: Phase) -> None:
        sightings = Sightings()
        owner = {"uid": "uid", "controller": True}
        sightings.job(OURS, raw(12))
        sightings.lease(OURS, raw(13, ownerReferences=[owner]))
        sightings.job(OURS, raw(10, phase))
        found = sightings.of(OURS)
        assert found
        assert found.job["metadata"]["resourceVersion"] == "12"
        assert found.lease

    def test_a_job_is_read_once_for_each_change(self) -> None:
        sightings = Sightings()
        named = {"namespace": "ns", "name": "job"}
        sightings.job(OURS, raw(1, **named))
        first = sightings.read(OURS, raw(1, **named))
        assert sightings.read(OURS, raw(1, **named)) is first
        assert sightings.read(OURS, raw(2, **named)) is not first

    def test_a_lease_of_an_older_job_of_that_name_is_not_this_ones(self) -> None:
        sightings = Sightings()
        sightings.job(OURS, raw(1))
        owner = {"uid": "another", "controller": True}
        sightings.lease(OURS, raw(2, ownerReferences=[owner]))
        found = sightings.of(OURS)
        assert found
        assert found.lease is None

    def test_a_pod_is_as_the_newest_word_about_it_says(self) -> None:
        sightings = with_pod()
        leaving = pod_body(3, deletionTimestamp="2026-01-01T00:00:00Z")
        sightings.known_pod(OURS, leaving, parse_pod(leaving))
        late = pod_body(2)
        sightings.pod(OURS, late, parse_pod(late))
        found = sightings.of(OURS)
        assert found
        assert [pod.deleting for pod in found.pods] == [True]

    def test_an_answer_brings_no_pod_back_that_the_watch_has_let_go(self) -> None:
        sightings = with_pod()
        sightings.pod_gone(OURS, "pod-uid")
        body = pod_body(2)
        sightings.known_pod(OURS, body, parse_pod(body))
        found = sightings.of(OURS)
        assert found
        assert found.pods == ()


def with_pod() -> Sightings:
    """Return what is seen of a job with one pod."""
    sightings = Sightings()
    sightings.job(OURS, raw(1))
    body = pod_body(2)
    sightings.pod(OURS, body, parse_pod(body))
    return sightings


def pod_body(version: int, **meta: Any) -> Manifest:
    owner = {"uid": "uid", "controller": True}
    named = {"name": "job-1-0", "uid": "pod-uid", "resourceVersion": str(version)}
    return {"metadata": {**named, "ownerReferences": [owner], **meta}}


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_a_node_that_is_killed_and_deleted_is_answered_in_time(world: World, after: int) -> None:
    train_for(world, 15)
    world.node_seconds = 10
    train_for(world, after)
    (trainer,) = world.trainers.values()
    world.kill_node(trainer.node)
    world.api.remove(NODES.kind, "", trainer.node)
    world.api.remove(LEASES.kind, NODE_LEASES, trainer.node)
    world.advance(13)
    assert [ended.reason for ended in world.status().attempts] == ["NodeLost"]
