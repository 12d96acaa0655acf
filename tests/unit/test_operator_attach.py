"""A volume that another node still has: said, waited for, and never held against the job."""

from collections.abc import Iterator
from typing import Any

import pytest
from rtj_api.names import Condition, Reason
from rtj_operator.cluster import CLAIMS, EVENTS, PODS
from rtj_operator.core import attach
from rtj_operator.core.conditions import find
from rtj_operator.core.launch import places
from rtj_operator.core.observed import Job, Waiting
from rtj_operator.core.plan import Plan

from tests.model.world import NAMESPACE, World
from tests.unit.operator_looks import NOW, look, pod, running

pytestmark = pytest.mark.unit

MULTI_ATTACH = (
    'Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node '
    "and can't be attached to another"
)


@pytest.fixture
def world() -> Iterator[World]:
    """A job whose node has died, and whose claim one node at a time can have."""
    world = World()
    claim = world.api.objects[(CLAIMS.kind, NAMESPACE, "work")]
    claim["spec"] = {"accessModes": ["ReadWriteOnce"]}
    world.work()
    world.schedule()
    world.start_containers()
    world.work()
    yield world
    world.close()


def lose_the_node(world: World) -> None:
    """Kill the job's node; the next pod gets another, and waits there for its volume."""
    (trainer,) = world.trainers.values()
    world.train(trainer)
    world.commit(trainer)
    world.kill_node(trainer.node)
    world.advance(15)
    world.schedule()
    for waits in world.pods():
        if "deletionTimestamp" not in waits["metadata"]:
            world._set_state(waits, "Pending", {"waiting": {"reason": "ContainerCreating"}})
            uid = waits["metadata"]["uid"]
            tell(world, uid, MULTI_ATTACH)


def tell(world: World, uid: str, message: str, reason: str = "FailedAttachVolume") -> None:
    """Let the cluster post an Event about a pod."""
    event = {
        "metadata": {"name": f"event-{reason.lower()}"},
        "involvedObject": {"uid": uid},
        "type": "Warning" if reason.startswith("Failed") else "Normal",
        "reason": reason,
        "message": message,
        "lastTimestamp": world.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    world.api.put(EVENTS.kind, NAMESPACE, event)


def said(world: World) -> Any:
    condition = find(world.status().conditions, Condition.RUNNING)
    assert condition
    return condition


def test_the_user_is_told_which_claim_is_where_and_what_to_do(world: World) -> None:
    lose_the_node(world)
    world.advance(25)
    condition = said(world)
    assert condition.reason is Reason.VOLUME_STILL_ATTACHED
    assert "claim work" in condition.message
    assert "still attached to node node-a" in condition.message
    assert "kubectl taint node node-a node.kubernetes.io/out-of-service" in condition.message
    events = [e for (kind, _, _), e in world.api.objects.items() if kind == EVENTS.kind]
    assert [e["reason"] for e in events].count("VolumeStillAttached") == 1


def test_a_restart_of_the_operator_does_not_change_what_is_said(world: World) -> None:
    lose_the_node(world)
    world.advance(25)
    before = said(world)
    world.start_operator()
    for _ in range(60):
        world.advance(1)
        assert said(world) == before


def test_it_waits_as_long_as_it_takes_and_goes_on_at_no_cost(world: World) -> None:
    lose_the_node(world)
    before = world.status().restarts
    world.advance(400)
    assert said(world).reason is Reason.VOLUME_STILL_ATTACHED
    assert world.status().attempt.number == 2  # type: ignore[union-attr]
    assert world.status().restarts == before
    world.start_containers()
    world.work()
    assert said(world).reason is Reason.TRAINING
    (trainer,) = (t for t in world.trainers.values() if t.attempt == 2)
    assert trainer.step == 5


@pytest.mark.parametrize(
    ("reason", "message", "ends"),
    [
        ("SuccessfulAttachVolume", 'AttachVolume.Attach succeeded for volume "pvc-1" ', True),
        ("SuccessfulAttachVolume", 'AttachVolume.Attach succeeded for volume "pvc-2" ', False),
        ("Pulling", 'Pulling image "trainer"', True),
    ],
    ids=["attached", "another-attached", "mounted"],
)
def test_it_is_said_no_more_once_the_volume_is_there_though_the_image_is_not(
    world: World, reason: str, message: str, *, ends: bool
) -> None:
    lose_the_node(world)
    world.advance(25)
    (waits,) = [p for p in world.pods() if "deletionTimestamp" not in p["metadata"]]
    tell(world, waits["metadata"]["uid"], message, reason)
    world.advance(300)
    expected = Reason.WAITING_FOR_PODS if ends else Reason.VOLUME_STILL_ATTACHED
    assert said(world).reason is expected


def test_events_are_read_ever_more_rarely_also_for_a_claim_that_one_node_can_have(
    world: World,
) -> None:
    asked: list[float] = []
    original = world.api.list

    async def counted(kind: Any, namespace: str, selector: str = "", fields: str = "") -> Any:
        if kind is EVENTS:
            assert fields == f"involvedObject.uid={uid}"
            asked.append(world.time - began)
        return await original(kind, namespace, selector, fields)

    world.api.list = counted  # type: ignore[method-assign]
    lose_the_node(world)
    began = world.time
    (waits,) = [p for p in world.pods() if "deletionTimestamp" not in p["metadata"]]
    uid = waits["metadata"]["uid"]
    world.advance(600)
    assert len(asked) <= 8, "at 5, 10, 20, 30, 60, 120, 240 and 480 s"
    assert asked[-1] > 300, "it may be over"


def test_a_shared_claim_is_not_waited_for(world: World) -> None:
    claim = world.api.objects[(CLAIMS.kind, NAMESPACE, "work")]
    claim["spec"] = {"accessModes": ["ReadWriteMany"]}
    lose_the_node(world)
    world.advance(60)
    assert said(world).reason is not Reason.VOLUME_STILL_ATTACHED


class TestWhoWaits:
    """Which pods may wait for a volume."""

    WAITS = pod(started=False, phase="Pending", waiting=Waiting("ContainerCreating"))

    def test_one_that_is_being_created(self) -> None:
        assert attach.waits(self.WAITS)

    @pytest.mark.parametrize(
        "other",
        [
            pod(),
            pod(node=None, started=False, phase="Pending"),
            pod(started=False, waiting=Waiting("ImagePullBackOff")),
            pod(started=False, deleting=True),
        ],
        ids=["runs", "without-a-node", "image", "terminates"],
    )
    def test_no_other(self, other: Any) -> None:
        assert not attach.waits(other)

    def test_another_failure_to_attach_is_another_matter(self) -> None:
        job = Job("ns", "job", "uid", 1, running(), None)
        other = {"message": "AttachVolume.Attach failed"}
        assert attach.problem_of(job, self.WAITS, "work", [other]) is None


class TestWhereTheNextPodGoes:
    """With a claim that one node at a time can have."""

    def wished(self, world: World, *, exclusive: bool) -> tuple[list[str], str | None]:
        """Return the nodes that the next pod avoids, and the one that it prefers."""
        observed = look(status=world.status(), exclusive_claim=exclusive)
        found = places(Plan(observed, NOW.replace(year=2026, month=1, day=1, hour=0)))
        return list(found.avoid), found.prefer

    def test_to_the_node_that_has_the_volume(self, world: World) -> None:
        for running_pod in world.pods():
            world.api.delete_pod(NAMESPACE, running_pod["metadata"]["name"])
        world.finish_deletions()
        world.work()
        assert self.wished(world, exclusive=True) == ([], "node-a")
        assert self.wished(world, exclusive=False) == ([], None)
        (made,) = [p for p in world.pods() if p["metadata"]["name"] == "job-2-0"]
        terms = made["spec"]["affinity"]["nodeAffinity"]
        (term,) = terms["preferredDuringSchedulingIgnoredDuringExecution"]
        assert term["weight"] == 50
        (field,) = term["preference"]["matchFields"]
        assert (field["operator"], field["values"]) == ("In", ["node-a"])
        assert "requiredDuringSchedulingIgnoredDuringExecution" not in terms

    def test_but_not_to_one_that_is_to_blame(self, world: World) -> None:
        lose_the_node(world)
        assert self.wished(world, exclusive=True) == (["node-a"], None)
        assert (PODS.kind, NAMESPACE, "job-2-0") in world.api.objects
