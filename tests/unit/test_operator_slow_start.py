"""A pod that cannot start for a reason that only its Events know is not silently waited for."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from rtj_api.names import Condition, Reason
from rtj_api.status import ConditionStatus
from rtj_operator.cluster import CLAIMS, EVENTS
from rtj_operator.core.conditions import find
from rtj_operator.core.observed import Silence, Waiting
from rtj_operator.core.pod_events import standing
from rtj_operator.core.slow_start import newest, problem_of

from tests.model.world import NAMESPACE, World
from tests.unit.operator_looks import condition, decided, held, look, pause, pod, running

pytestmark = pytest.mark.unit

UNMOUNTED = 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found'
WAITS = pod(started=False, phase="Pending", waiting=Waiting("ContainerCreating"))


def warning(reason: str, message: str, minute: int) -> dict[str, Any]:
    time = f"2026-05-01T12:{minute:02}:00Z"
    return {"type": "Warning", "reason": reason, "message": message, "lastTimestamp": time}


def tell(world: World, event: dict[str, Any]) -> None:
    """Let the kubelet post an Event about the pod, or say it again."""
    (waits,) = world.pods()
    about = {"involvedObject": {"uid": waits["metadata"]["uid"]}}
    name = f"event-{event['reason'].lower()}"
    world.api.objects.pop((EVENTS.kind, NAMESPACE, name), None)
    world.api.put(EVENTS.kind, NAMESPACE, {"metadata": {"name": name}, **about, **event})


@pytest.fixture
def world() -> Iterator[World]:
    """A job whose pod waits on its node for a Secret that is missing."""
    world = World()
    world.work()
    world.schedule()
    (waits,) = world.pods()
    world._set_state(waits, "Pending", {"waiting": {"reason": "ContainerCreating"}})
    tell(world, warning("FailedMount", UNMOUNTED, 0))
    yield world
    world.close()


def said(world: World, kind: Condition = Condition.RUNNING) -> ConditionStatus:
    condition = find(world.status().conditions, kind)
    assert condition
    return condition


def test_the_kubelets_warning_is_shown_and_it_goes_on_at_no_cost(world: World) -> None:
    world.advance(20)
    assert said(world).reason is Reason.WAITING_FOR_PODS, "an image may take as long"
    world.advance(20)
    shown = said(world)
    assert (shown.status, shown.reason) == ("False", Reason.CONTAINER_NOT_STARTED)
    assert f"FailedMount: {UNMOUNTED}" in shown.message
    assert said(world, Condition.PROGRESSING).message == shown.message
    events = [e["reason"] for (kind, _, _), e in world.api.objects.items() if kind == EVENTS.kind]
    assert events.count("ContainerNotStarted") == 1
    for minute in range(2, 22, 2):
        tell(world, warning("FailedMount", UNMOUNTED, minute))
        world.advance(120)
    assert said(world) == shown
    world.start_containers()
    world.work()
    assert said(world).reason is Reason.TRAINING
    assert world.status().restarts.total == 0


def advance_with_errors(world: World, seconds: int) -> None:
    """Let time pass while an answer of the API server is lost every twenty seconds."""
    for _ in range(seconds // 20):
        world.api.fail_next = 1
        world.advance(20)


def test_it_is_shown_and_ended_also_where_an_answer_is_lost_now_and_then(world: World) -> None:
    advance_with_errors(world, 100)
    assert said(world).reason is Reason.CONTAINER_NOT_STARTED
    advance_with_errors(world, 1500)
    assert said(world).reason is Reason.WAITING_FOR_PODS, "the warning did not come again"


def test_a_long_start_is_no_progress_also_where_an_answer_is_lost_now_and_then(
    world: World,
) -> None:
    world.api.remove(EVENTS.kind, NAMESPACE, "event-failedmount")
    advance_with_errors(world, 440)
    assert "for more than 300 s" in said(world, Condition.PROGRESSING).message


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteMany"])
def test_a_restart_of_the_operator_does_not_change_what_is_said(world: World, mode: str) -> None:
    world.api.objects[(CLAIMS.kind, NAMESPACE, "work")]["spec"] = {"accessModes": [mode]}
    world.advance(40)
    before = said(world), said(world, Condition.PROGRESSING)
    assert before[0].reason is Reason.CONTAINER_NOT_STARTED
    world.start_operator()
    for _ in range(60):
        world.advance(1)
        assert (said(world), said(world, Condition.PROGRESSING)) == before
    events = [e["reason"] for (kind, _, _), e in world.api.objects.items() if kind == EVENTS.kind]
    assert events.count("ContainerNotStarted") == 1


def test_events_are_read_ever_more_rarely_while_they_tell_nothing(world: World) -> None:
    world.api.remove(EVENTS.kind, NAMESPACE, "event-failedmount")
    read: list[float] = []
    original = world.api.list

    async def counted(kind: Any, *rest: Any, **fields: Any) -> Any:
        if kind is EVENTS:
            read.append(world.time)
        return await original(kind, *rest, **fields)

    world.api.list = counted  # type: ignore[method-assign]
    began = world.time
    world.advance(600)
    waited = [time - began for time in read]
    assert len(waited) == 4, "at 30, 60, 120 and 240 s, and by whole looks"
    assert waited[0] >= 30
    assert all(later >= 2 * earlier for earlier, later in pairwise(waited))
    assert said(world).reason is Reason.WAITING_FOR_PODS


def test_a_warning_that_mended_itself_is_not_told_while_an_image_is_pulled(world: World) -> None:
    tell(world, {**warning("Pulling", 'Pulling image "trainer"', 0), "type": "Normal"})
    world.advance(600)
    assert said(world).reason is Reason.WAITING_FOR_PODS


def test_what_is_mended_is_told_no_more_once_the_image_is_pulled(world: World) -> None:
    world.advance(40)
    assert said(world).reason is Reason.CONTAINER_NOT_STARTED
    tell(world, {**warning("Pulling", 'Pulling image "trainer"', 1), "type": "Normal"})
    world.advance(60)
    assert said(world).reason is Reason.WAITING_FOR_PODS


def test_a_warning_that_does_not_come_again_is_over_after_ten_minutes(world: World) -> None:
    world.advance(600)
    assert said(world).reason is Reason.CONTAINER_NOT_STARTED, "a kubelet may be silent for five"
    world.advance(600)
    assert said(world).reason is Reason.WAITING_FOR_PODS


def test_only_what_a_kubelet_says_later_ends_its_warning() -> None:
    pulled = {**warning("Pulled", "", 5), "type": "Normal"}
    assert not standing([warning("FailedMount", UNMOUNTED, 4), pulled])
    assert standing([pulled, warning("FailedMount", UNMOUNTED, 6)])


def test_the_newest_warning_counts_but_none_of_the_scheduler() -> None:
    told = [
        warning("FailedMount", UNMOUNTED, 5),
        warning("FailedCreatePodSandBox", "plugin is down", 7),
        warning("FailedMount", "older", 6),
        warning("FailedScheduling", "0/2 nodes are available", 9),
    ]
    warning_ = newest(standing(told))
    assert warning_
    assert "(FailedCreatePodSandBox: plugin is down)" in problem_of(WAITS, warning_).message
    assert newest(standing(told[3:])) is None


def test_a_start_that_takes_minutes_is_no_progress_though_nothing_warns_of_it() -> None:
    starting = held(Condition.RUNNING, "False", Reason.WAITING_FOR_PODS, "Pod job-1-0 is starting.")
    attempt = running().attempt
    assert attempt
    new = attempt.model_copy(update={"running_time": None, "first_step": None, "last_step": None})
    status = running(attempt=1, conditions=[starting]).model_copy(update={"attempt": new})
    early = decided(look(WAITS, status=status, silence=Silence(placed=295)))
    assert pause(early) <= 5
    progressing = condition(early, Condition.PROGRESSING)
    assert progressing
    assert progressing.status == "True"
    late = condition(
        decided(look(WAITS, status=status, silence=Silence(placed=300))), Condition.PROGRESSING
    )
    assert late
    assert (late.status, late.reason) == ("False", Reason.WAITING_FOR_PODS)
    assert "for more than 300 s, and its trainer has not started" in late.message
