"""The real loop over an API server in memory: what only shows over several turns."""

import asyncio
import itertools
from functools import partial

import pytest
from rtj_api.names import Condition, ExitCode, Phase, Reason
from rtj_api.status import ConditionStatus
from rtj_operator.act import announce
from rtj_operator.cluster import LEASES, NODE_LEASES, PODS, Kind, Manifest
from rtj_operator.core.observed import Settings
from rtj_operator.handlers import Handlers
from rtj_operator.health import Pulse
from rtj_operator.memory import Memory
from rtj_operator.queue import WorkQueue
from rtj_operator.reconcile import Reconciler

from tests.model.manifests import read_config
from tests.model.world import JOB, JOB_PLACE, KEY, NAMESPACE, World

pytestmark = pytest.mark.unit


def train(world: World, steps: int) -> None:
    (trainer,) = world.trainers.values()
    world.train(trainer, steps)
    world.commit(trainer)
    world.work()


def start_next(world: World) -> None:
    world.schedule()
    world.start_containers()
    world.work()


def test_a_job_that_is_killed_again_and_again_comes_to_its_end(world: World) -> None:
    for attempt in range(1, 8):
        train(world, 5)
        (trainer,) = world.trainers.values()
        assert trainer.attempt == attempt
        world.kill_node(trainer.node)
        world.advance(15)
        start_next(world)
        world.revive_node(trainer.node)
    (trainer,) = world.trainers.values()
    assert trainer.step == 35
    world.complete(trainer)
    world.work()
    status = world.status()
    assert status.phase is Phase.COMPLETED
    assert (status.restarts.preempted, status.restarts.total) == (7, 7)
    assert [commit.step for commit in world.volume.commits] == [5, 10, 15, 20, 25, 30, 35, 40]


def test_a_stale_writer_behind_a_partition_commits_nothing_more(world: World) -> None:
    train(world, 5)
    (old,) = world.trainers.values()
    world.partition_node(old.node)
    world.advance(15)
    start_next(world)
    world.train(old, 20)
    world.commit(old)
    assert [commit.step for commit in world.volume.commits] == [5]


def test_a_commit_made_while_the_job_is_read_is_seen(world: World) -> None:
    """What is read beside the pods may be older than the end of one of them."""
    (trainer,) = world.trainers.values()
    (pod,) = world.pods()
    pods = world.api.list

    async def late(kind: Kind, namespace: str, labels: str) -> list[Manifest]:
        await asyncio.sleep(0)  # All else that is asked beside them is answered.
        if world.trainers:
            world.train(trainer, 5)
            world.commit(trainer)
            world.trainers.clear()
            world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
        return await pods(kind, namespace, labels)

    world.api.list = late  # type: ignore[method-assign]
    world.look_early()
    world.work()
    status = world.status()
    assert status.last_commit
    assert status.last_commit.step == 5
    assert status.restarts.no_progress == 0
    (relaunched,) = world.pods()
    assert read_config(relaunched).expected_step == 5


def test_a_pod_that_somebody_deletes_each_time_is_made_ever_more_slowly() -> None:
    world, made = World(), list[float]()
    world.work()
    while world.time < 200 and len(made) < 50:
        for pod in world.pods():
            made.append(world.time)
            world.api.delete_pod(NAMESPACE, pod["metadata"]["name"])
            world.work()
        if not world.pods():
            world.advance(1)
    assert [after - before for before, after in itertools.pairwise(made)] == [0, 0, 10, 20, 40, 80]
    said = running(world)
    assert said.reason is Reason.POD_REJECTED
    assert "deleted pod job-1-0 7 times before it was scheduled" in said.message
    assert world.status().restarts.total == 0
    world.advance(200)
    start_next(world)
    assert running(world).reason is Reason.TRAINING
    world.close()


def test_a_pause_for_it_ends_with_its_attempt() -> None:
    world = World()
    for _ in range(3):
        world.work()
        (pod,) = world.pods()
        world.api.delete_pod(NAMESPACE, pod["metadata"]["name"])
    world.advance(11)
    start_next(world)
    (trainer,) = world.trainers.values()
    world.end(trainer, ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED)
    world.work()
    assert "job-2-0" in [pod["metadata"]["name"] for pod in world.pods()]
    world.close()


def test_a_pause_for_it_keeps_nobody_from_going_back(world: World) -> None:
    train(world, 5)
    train(world, 5)
    (trainer,) = world.trainers.values()
    world.end(trainer, ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED)
    for _ in range(3):
        world.work()
        world.api.delete_pod(NAMESPACE, "job-2-0")
    world.work()
    assert running(world).reason is Reason.POD_REJECTED
    world.go_back(world.volume.commits[0].id)
    world.work()
    assert "job-3-0" in [pod["metadata"]["name"] for pod in world.pods()]
    assert running(world).reason is Reason.WAITING_FOR_PODS


def test_an_outage_of_the_api_server_kills_nobody(world: World) -> None:
    train(world, 5)
    for node in tuple(world.live_nodes):
        world.partition_node(node)  # Nothing is heard of any node, and no call gets through.
    world.api.fail_next = 10_000
    world.advance(120)
    world.api.fail_next = 0
    for node in ("node-a", "node-b"):
        world.revive_node(node)
    world.advance(20)
    status = world.status()
    assert status.attempt
    assert status.attempt.number == 1
    assert status.restarts.total == 0


def test_a_healthy_job_costs_few_calls(world: World) -> None:
    train(world, 5)
    turns, writes = world.turns, len(world.api.writes)
    world.advance(50)
    assert world.turns - turns <= 50 / 7
    # Where it stands, and then, once and with an Event, that it stands still.
    assert len(world.api.writes) - writes <= 3


def test_a_lease_that_became_a_strangers_does_not_make_the_operator_spin(world: World) -> None:
    train(world, 5)
    world.api.remove(LEASES.kind, NAMESPACE, JOB)
    world.api.put(LEASES.kind, NAMESPACE, {"metadata": {"name": JOB}, "spec": {}})
    turns = world.turns
    world.advance(35)
    assert 0 < world.turns - turns <= 35 / 7
    assert world.status().phase is Phase.RUNNING


def test_a_drain_is_answered_with_the_last_commit_and_five_writes(world: World) -> None:
    train(world, 5)
    (trainer,) = world.trainers.values()
    world.train(trainer, 3)
    before = len(world.api.writes)
    (pod,) = world.pods()
    world.evict(pod)
    world.work()
    world.finish_deletions()
    world.work()
    world.schedule()
    world.work()
    start_next(world)
    status = world.status()
    assert status.attempt
    assert (status.attempt.number, status.attempt.first_step) == (2, 8)
    assert status.phase is Phase.RUNNING
    mine = [w for w in world.api.writes[before:] if w[1] in ("Event", "ResumableTrainingJob")]
    pods = [w for w in world.api.writes[before:] if w[:2] == ("create", PODS.kind)]
    assert len(mine) + len(pods) == 5


def test_a_pod_that_vanishes_while_it_goes_keeps_the_reason_that_it_had(world: World) -> None:
    (pod,) = world.pods()
    world.evict(pod)
    world.work()
    world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
    world.work()
    (ended,) = world.status().attempts
    assert (ended.reason, ended.node_name) == (Reason.EVICTED, "node-a")
    assert "EvictionByEvictionAPI" in ended.message


def test_of_a_pod_that_was_never_seen_to_go_it_is_told_where_it_was(world: World) -> None:
    (pod,) = world.pods()
    world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
    world.work()
    (ended,) = world.status().attempts
    assert (ended.reason, ended.message) == (
        Reason.POD_DELETED,
        "The pod on node node-a was deleted.",
    )


@pytest.mark.parametrize("ran", [True, False])
def test_a_pod_that_goes_between_two_looks_is_known_by_what_the_watch_told_of_it(ran: bool) -> None:
    world = World()
    world.work()
    world.schedule()
    world.advance(30)
    (pod,) = world.pods()
    if ran:  # Its trainer has said nothing yet.
        status = {"containerStatuses": [{"name": "trainer", "state": {"running": {}}}]}
        name = pod["metadata"]["name"]
        world.api.update(PODS.kind, NAMESPACE, name, lambda p: p.update(status=status))
    world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
    world.work()
    restarts = world.status().restarts
    assert (restarts.no_progress, restarts.never_started) == ((1, 0) if ran else (0, 1))
    world.close()


def test_a_pod_that_starts_and_goes_while_it_is_read_is_known_to_have_started() -> None:
    world = World()
    world.work()
    world.schedule()
    world.advance(30)
    (pod,) = world.pods()
    place = (PODS.kind, NAMESPACE, pod["metadata"]["name"])

    def start_and_go() -> None:
        status = {"containerStatuses": [{"name": "trainer", "state": {"running": {}}}]}
        world.api.update(*place, lambda p: p.update(status=status))
        world.api.remove(*place)

    # The pods have been listed when the Lease is read.
    world.api.meanwhile = (3, start_and_go)
    world.look_early()
    world.work()
    restarts = world.status().restarts
    assert (restarts.no_progress, restarts.never_started) == (1, 0)
    world.close()


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "going"])
def test_a_pod_that_starts_and_is_evicted_before_a_look_is_not_made_again(gone: bool) -> None:
    world = World()
    world.work()
    world.schedule()
    (pod,) = world.pods()
    world.evict(pod)
    world._set_state(pod, "Failed", {"terminated": {"exitCode": 143}})
    if not gone:  # The watch is about to tell so.
        world.watches.lagging.add(PODS.kind)
    world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
    world.work()
    (ended,) = world.status().attempts
    assert (ended.reason, ended.node_name) == (Reason.EVICTED, "node-a")
    assert [made["metadata"]["name"] for made in world.pods()] == ["job-2-0"]
    world.close()


def test_the_end_of_a_pod_that_went_before_it_was_written_down_is_remembered(world: World) -> None:
    (trainer,) = world.trainers.values()
    world.end(trainer, ExitCode.USER_ERROR, Reason.TRAINER_FAILED, oom=True)
    (pod,) = world.pods()
    world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
    world.work()
    (ended,) = world.status().attempts
    assert ended.reason is Reason.OOM_KILLED


def test_who_waited_to_lead_knows_how_long_a_pod_without_a_heartbeat_was_silent() -> None:
    world = World()
    world.work()
    world.schedule()
    world.work()
    (pod,) = world.pods()
    memory = Memory(clock=lambda: world.time)
    waiting = Handlers(WorkQueue(), memory, Pulse(memory.silences))
    waiting.pod("MODIFIED", pod)
    waiting.lease(None, world.api.read(LEASES.kind, NODE_LEASES, pod["spec"]["nodeName"]))
    for _ in range(14):  # The leader and the node have died: it hears nothing but the API server.
        world.time += 1
        memory.silences.contact()
    asyncio.run(Reconciler(world.api, memory, Settings(), partial(announce, world.api))(KEY))
    (ended,) = world.status().attempts
    assert ended.reason is Reason.NODE_LOST
    world.close()


@pytest.mark.parametrize("written_down", [True, False])
def test_who_waited_to_lead_knows_why_a_pod_went(written_down: bool) -> None:
    world = World()
    world.work()
    world.schedule()
    if written_down:
        world.advance(5)
    (pod,) = world.pods()
    memory = Memory(clock=lambda: world.time)
    waiting = Handlers(WorkQueue(), memory, Pulse(memory.silences))
    waiting.job(None, world.api.read(*JOB_PLACE))
    waiting.pod(None, pod)
    world.evict(pod)
    waiting.pod("MODIFIED", pod)
    world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
    waiting.pod("DELETED", pod)
    asyncio.run(Reconciler(world.api, memory, Settings(), partial(announce, world.api))(KEY))
    (ended,) = world.status().attempts
    assert (ended.reason, ended.node_name) == (Reason.EVICTED, "node-a")
    world.close()


def test_a_pod_that_came_and_went_between_two_lists_of_pods_is_made_again() -> None:
    world = World({"suspend": True})
    world.work()
    world.watches.lagging = {PODS.kind}
    world.resume()
    world.work()
    (pod,) = world.pods()
    world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
    world.work()
    assert world.pods() == []
    world.list_anew()
    world.work()
    assert len(world.pods()) == 1
    turns = world.turns
    world.list_anew()
    world.work()
    assert world.turns == turns, "a job whose pod is there needs no turn"
    world.close()


def test_a_restart_says_where_it_goes_on_from(world: World) -> None:
    train(world, 5)
    (trainer,) = world.trainers.values()
    world.end(trainer, ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED)
    world.work()
    status = world.status()
    assert status.attempt
    assert status.attempt.number == 2
    restarting = next(c for c in status.conditions if c.type is Condition.RESTARTING)
    assert "from the commit of step 5" in restarting.message


def test_an_api_server_that_keeps_failing_to_make_the_pod_is_shown_until_it_does(
    world: World,
) -> None:
    (trainer,) = world.trainers.values()
    world.api.fail_pods = True
    world.end(trainer, ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED)
    world.advance(5)
    assert running(world).reason is Reason.WAITING_FOR_PODS, "it may be over in a moment"
    world.advance(30)
    assert running(world).reason is Reason.POD_REJECTED
    assert "failed calling webhook" in running(world).message
    world.api.fail_pods = False
    world.advance(60)
    start_next(world)
    assert (world.status().phase, running(world).status) == (Phase.RUNNING, "True")


def test_a_webhook_that_fails_for_one_job_makes_nobody_deaf_to_dead_nodes(world: World) -> None:
    (trainer,) = world.trainers.values()
    world.api.fail_pods = True
    world.end(trainer, ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED)
    world.advance(60)
    assert world.uninterrupted() >= 60


def running(world: World) -> ConditionStatus:
    return next(c for c in world.status().conditions if c.type is Condition.RUNNING)
