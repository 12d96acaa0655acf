"""A pod that is refused, or that the API server fails to create, is told of and tried again."""

from collections.abc import Iterator
from typing import Any

import pytest
from rtj_api.names import Condition, Phase, Reason
from rtj_operator.cluster import (
    JOBS,
    PODS,
    ClusterError,
    ConflictError,
    Kind,
    Manifest,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from rtj_operator.core.conditions import find

from tests.model.manifests import make_job
from tests.model.world import JOB_PLACE, NAMESPACE, World

pytestmark = pytest.mark.unit


class Admission:
    """Answers each request for a pod with an error, if it has one."""

    def __init__(self, world: World) -> None:
        self.error: ClusterError | None = None
        self.takes_effect = False
        self.asked = 0
        self._create = world.api.create
        world.api.create = self.create  # type: ignore[method-assign]

    async def create(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        if kind is not PODS or not self.error:
            return await self._create(kind, namespace, manifest)
        self.asked += 1
        if self.takes_effect:
            await self._create(kind, namespace, manifest)
        raise self.error


@pytest.fixture
def fresh() -> Iterator[World]:
    """A job that has not been looked at yet, with a deadline."""
    world = World({"activeDeadlineSeconds": 170})
    yield world
    world.close()


def said(world: World) -> Any:
    return find(world.status().conditions, Condition.RUNNING)


def test_the_words_of_the_newest_refusal_are_told_at_once(fresh: World) -> None:
    admission = Admission(fresh)
    admission.error = RejectedError("the webhook says no")
    fresh.work()
    assert "the webhook says no" in said(fresh).message
    admission.error = RejectedError("exceeded quota")
    fresh.advance(11)
    assert "exceeded quota" in said(fresh).message


def test_a_refusal_is_out_of_sight_once_the_pod_is_there_though_no_watch_tells(
    fresh: World,
) -> None:
    fresh.api.refuse_pods = True
    fresh.work()
    assert said(fresh).reason is Reason.POD_REJECTED
    fresh.api.refuse_pods = False
    fresh.watches.lagging |= {PODS.kind}
    fresh.pass_time(11)
    assert said(fresh).reason is Reason.WAITING_FOR_PODS


def test_a_deadline_passes_also_while_a_pod_is_refused(fresh: World) -> None:
    Admission(fresh).error = RejectedError("the webhook says no")
    fresh.work()
    fresh.advance(169)
    assert not fresh.status().phase.final
    fresh.advance(2)
    assert fresh.status().phase is Phase.FAILED
    assert said(fresh).reason is Reason.DEADLINE_EXCEEDED


def test_a_refused_pod_is_tried_ever_more_slowly_and_costs_few_turns(fresh: World) -> None:
    admission = Admission(fresh)
    admission.error = RejectedError("exceeded quota")
    fresh.work()
    fresh.advance(160)
    assert admission.asked == 5, "at 0, 10, 30, 70 and 150 s"
    assert fresh.turns <= 2 * admission.asked + 1


def test_a_pod_is_made_at_once_when_the_spec_was_mended(fresh: World) -> None:
    fresh.api.refuse_pods = True
    fresh.work()
    fresh.advance(150)
    fresh.api.refuse_pods = False
    labels = {"podTemplate": {"metadata": {"labels": {"queue": "free"}}}}
    fresh.api.update(*JOB_PLACE, lambda job: job["spec"]["trainer"].update(labels))
    fresh.work()
    assert len(fresh.pods()) == 1


def test_a_new_job_does_not_wait_for_what_an_older_one_of_its_name_was_refused(
    fresh: World,
) -> None:
    fresh.api.refuse_pods = True
    fresh.work()
    fresh.advance(150)
    fresh.api.refuse_pods = False
    fresh.api.remove(*JOB_PLACE)
    fresh.uid = fresh.api.put(JOBS.kind, NAMESPACE, make_job({}, {}))["metadata"]["uid"]
    fresh.work()
    assert said(fresh).reason is Reason.WAITING_FOR_PODS
    assert len(fresh.pods()) == 1


def test_a_creation_that_only_seemed_to_fail_is_not_held_against_the_next(world: World) -> None:
    admission = Admission(world)
    admission.error, admission.takes_effect = UnavailableError("timeout"), True
    relaunch(world)
    admission.error, admission.takes_effect = None, False
    world.advance(60)
    admission.error = UnavailableError("etcdserver: leader changed")
    relaunch(world)
    assert said(world).reason is not Reason.POD_REJECTED
    admission.error = None
    world.advance(1)
    assert len(world.pods()) == 1


@pytest.mark.parametrize("error", [ConflictError("quota changed"), NotFoundError("no namespace")])
def test_whatever_keeps_failing_the_making_of_the_pod_is_shown(
    fresh: World, error: ClusterError
) -> None:
    admission = Admission(fresh)
    admission.error = error
    fresh.advance(15)
    assert said(fresh).reason is Reason.POD_REJECTED
    assert str(error) in said(fresh).message
    admission.error = None
    fresh.advance(30)
    assert len(fresh.pods()) == 1


@pytest.mark.parametrize("between", ["suspended", "without its claim"])
def test_failures_long_apart_are_not_one_that_lasts(fresh: World, between: str) -> None:
    admission = Admission(fresh)
    admission.error = UnavailableError("etcdserver: leader changed")
    fresh.api.update(*JOB_PLACE, lambda job: job["spec"]["runPolicy"].clear())
    claim = ("PersistentVolumeClaim", NAMESPACE, "work")
    fresh.turn()
    if between == "suspended":
        fresh.set_run_policy(suspend=True)
        fresh.advance(120)
        fresh.resume()
    else:
        fresh.api.remove(*claim)
        fresh.advance(3600)
        fresh.api.put(claim[0], NAMESPACE, {"metadata": {"name": "work"}})
    asked = admission.asked
    while admission.asked == asked:
        fresh.time += 1
        fresh.turn()
    fresh.turn()
    assert said(fresh).reason is not Reason.POD_REJECTED


def test_a_status_that_is_refused_is_told_in_an_event(fresh: World) -> None:
    replace = fresh.api.replace

    async def refuse(*args: Any) -> Manifest:
        if args[-1] == "status":
            raise RejectedError("status.attempts[0].reason: Too long")
        return await replace(*args)

    fresh.api.replace = refuse  # type: ignore[method-assign]
    fresh.turn()
    fresh.turn()
    (told,) = fresh.events(Reason.STATUS_REJECTED)
    assert "status.attempts[0].reason: Too long" in told
    fresh.api.replace = replace  # type: ignore[method-assign]
    fresh.advance(1)
    assert len(fresh.pods()) == 1


def relaunch(world: World) -> None:
    """Evict the pod; the operator asks once for another."""
    for pod in world.pods():
        world.evict(pod)
    world.finish_deletions()
    world.turn()
