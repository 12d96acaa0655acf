"""What the API server will not delete is told of, tried ever more slowly, and stops nothing."""

import asyncio
from typing import Any

import pytest
from rtj_api.names import Condition, Reason
from rtj_operator.cluster import LEASES, PODS, ClusterError, Kind, RejectedError, UnavailableError
from rtj_operator.core.decision import (
    Action,
    CreatePod,
    Decision,
    DeleteJob,
    DeletePod,
    EnsureObjects,
)
from rtj_operator.core.observed import Job, Problem
from rtj_operator.execute import Executor
from rtj_operator.memory import Memory
from rtj_operator.parse import parse_job
from rtj_operator.queue import UnfinishedError

from tests.model.memory_cluster import MemoryCluster
from tests.model.world import JOB_PLACE, KEY, NAMESPACE, World

pytestmark = pytest.mark.unit

DENIED = RejectedError("admission webhook denied the request")
FAILING = UnavailableError("failed calling webhook", answered=True)
TOLD_TO_WAIT = UnavailableError("too many requests", retry_after=3.0, answered=True)


class Guard:
    """Stands before the deletion of one object, by its uid, and fails it while it has an error."""

    def __init__(self, api: MemoryCluster, uid: str, error: ClusterError | None) -> None:
        self.error, self.asked = error, 0
        self._uid, self._delete = uid, api.delete
        api.delete = self.delete  # type: ignore[method-assign]

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        if uid == self._uid:
            self.asked += 1
            if self.error:
                raise self.error
        await self._delete(kind, namespace, name, uid)


def lose_the_node(world: World, error: ClusterError) -> Guard:
    """Kill the node of the pod, whose deletion fails; return what guards it."""
    (trainer,) = world.trainers.values()
    guard = Guard(world.api, trainer.uid, error)
    world.kill_node(trainer.node)
    world.advance(15)
    assert guard.asked
    return guard


def test_a_deletion_that_is_denied_is_told_and_tried_ever_more_slowly(world: World) -> None:
    guard = lose_the_node(world, DENIED)
    (told,) = world.events(Reason.DELETION_REJECTED)
    assert "Pod job-1-0 cannot be deleted: admission webhook denied" in told
    asked = guard.asked
    world.advance(60)
    assert guard.asked - asked <= 3
    guard.error = None
    world.advance(80)
    gone = [pod for pod in world.pods() if "deletionTimestamp" in pod["metadata"]]
    assert [pod["metadata"]["name"] for pod in gone] == ["job-1-0"]


def test_the_user_who_suspends_is_told_why_the_pod_does_not_go(world: World) -> None:
    (pod,) = world.pods()
    Guard(world.api, pod["metadata"]["uid"], DENIED)
    world.set_run_policy(suspend=True)
    world.advance(2)
    assert len(world.events(Reason.DELETION_REJECTED)) == 1
    running = next(c for c in world.status().conditions if c.type is Condition.RUNNING)
    assert running.status == "True"


def test_a_failure_that_may_be_over_in_a_moment_is_told_only_when_it_lasts(world: World) -> None:
    (pod,) = world.pods()
    guard = Guard(world.api, pod["metadata"]["uid"], FAILING)
    world.set_run_policy(suspend=True)
    world.advance(8)
    assert world.events(Reason.DELETION_REJECTED) == []
    world.advance(8)
    assert len(world.events(Reason.DELETION_REJECTED)) == 1
    guard.error = None
    world.advance(10)
    (pod,) = world.pods()
    assert "deletionTimestamp" in pod["metadata"]


class Execution:
    """Carries out decisions about a job with two pods, of which the first is guarded."""

    def __init__(self, world: World, error: ClusterError | None) -> None:
        self.world = world
        self.warnings: list[str] = []
        self.uids = [self._put(name)["metadata"]["uid"] for name in ("one", "two")]
        self.job: Job = parse_job(world.api.read(*JOB_PLACE))
        self.guard = Guard(world.api, self.uids[0], error)
        memory = Memory(clock=lambda: world.time)
        self._executor = Executor(world.api, memory, self._warn)

    def _put(self, name: str) -> dict[str, Any]:
        return self.world.api.put(PODS.kind, NAMESPACE, {"metadata": {"name": name}, "spec": {}})

    async def _warn(self, job: Job, problem: Problem) -> None:
        self.warnings.append(problem.message)

    def carry_out(self, *actions: Action, due: float | None = None) -> float | None:
        pods = [DeletePod(*pod) for pod in zip(("one", "two"), self.uids, strict=True)]
        decision = Decision(self.job.status, (*actions, *pods), requeue_after=due)
        return asyncio.run(self._executor.carry_out(KEY, self.job, decision))

    def names(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.world.pods()}


def test_a_denied_deletion_keeps_no_other_back_and_no_clock(fresh: World) -> None:
    denied = Execution(fresh, DENIED)
    assert denied.carry_out(due=7.0) == 7.0
    assert denied.names() == {"one"}
    assert denied.carry_out(due=300.0) == 10.0, "then it is tried again"
    assert denied.guard.asked == 1, "and not before"
    assert denied.carry_out() == 10.0


def test_a_finished_job_that_cannot_be_deleted_still_loses_its_pods(fresh: World) -> None:
    kept = Execution(fresh, None)
    kept.guard._uid = kept.job.uid
    kept.guard.error = DENIED
    assert kept.carry_out(DeleteJob()) == 10.0
    assert kept.names() == set()
    assert kept.warnings == ["Job job cannot be deleted: admission webhook denied the request"]


@pytest.mark.parametrize("error", [FAILING, TOLD_TO_WAIT], ids=["failing", "told-to-wait"])
def test_a_failing_deletion_keeps_no_other_back_and_no_clock(
    fresh: World, error: UnavailableError
) -> None:
    failing = Execution(fresh, error)
    with pytest.raises(UnfinishedError) as caught:
        failing.carry_out(due=7.0)
    assert (caught.value.cause, caught.value.due) == (error, 7.0)
    assert failing.names() == {"one"}


def test_no_pod_is_made_without_what_it_needs_but_what_is_to_go_goes(fresh: World) -> None:
    refused = Execution(fresh, None)
    lease = {"kind": "Lease", "metadata": {"name": "of-somebody-else"}}
    fresh.api.put(LEASES.kind, NAMESPACE, lease)
    pod = {"kind": "Pod", "metadata": {"name": "three"}, "spec": {}}
    assert refused.carry_out(EnsureObjects((lease,)), CreatePod(pod)) == 0.0
    assert refused.names() == set()
