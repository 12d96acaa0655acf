"""A job that is deleted and made anew under the same name, while the old one's trainer ends."""

from typing import Any

import pytest
from rtj_api.heartbeat import Heartbeat, TrainerPhase
from rtj_api.names import (
    ANNOTATION_HEARTBEAT,
    LABEL_JOB,
    LABEL_JOB_UID,
    ExitCode,
    Phase,
    Reason,
)
from rtj_operator.cluster import JOBS, LEASES

from tests.model.manifests import JOB, NAMESPACE, make_job
from tests.model.volume import Volume
from tests.model.world import JOB_PLACE, World
from tests.unit.operator_looks import commit, final

pytestmark = pytest.mark.unit


@pytest.fixture
def old_pod(world: World) -> dict[str, Any]:
    """Return the pod of the old job; a new job of the same name waits for it to go."""
    (pod,) = world.pods()
    world.trainers.clear()
    world.volume = Volume()
    world.api.remove(*JOB_PLACE)
    world.work()
    world.uid = world.api.put(JOBS.kind, NAMESPACE, make_job({}, {}))["metadata"]["uid"]
    world.statuses.clear()
    world.written_at.clear()
    world.due = world.time
    world.work()
    assert (LEASES.kind, NAMESPACE, JOB) in world.api.objects
    return pod


def say_last_word(world: World, job_uid: str, pod_uid: str) -> None:
    """Let the trainer of a job's attempt 1 say its last word."""
    told = Heartbeat(
        job_uid=job_uid,
        attempt=1,
        phase=TrainerPhase.FINISHED,
        commit=commit(20),
        final=final(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED),
    )

    def write(lease: dict[str, Any]) -> None:
        lease["spec"] = {"holderIdentity": pod_uid, "leaseTransitions": 1, "renewTime": "now"}
        told_as = told.model_dump_json(by_alias=True)
        lease["metadata"]["annotations"] = {ANNOTATION_HEARTBEAT: told_as}

    world.api.update(LEASES.kind, NAMESPACE, JOB, write)


def test_status_never_shows_a_commit_of_another_job(world: World, old_pod: dict[str, Any]) -> None:
    (owner,) = old_pod["metadata"]["ownerReferences"]
    say_last_word(world, owner["uid"], old_pod["metadata"]["uid"])
    world.finish_deletions()
    world.advance(30)
    world.schedule()
    world.start_containers()
    world.advance(30)
    assert [status.last_commit for status in world.statuses if status.last_commit] == []
    status = world.status()
    assert status.attempt
    assert (status.phase, status.attempt.number) == (Phase.RUNNING, 1)
    assert status.restarts.total == 0


@pytest.mark.parametrize("ended", [True, False])
def test_a_new_job_gets_its_pod_as_soon_as_the_old_one_has_gone(
    world: World, old_pod: dict[str, Any], ended: bool
) -> None:
    world.advance(31)
    if ended:
        world.revive_node(old_pod["spec"]["nodeName"])
    world.work()
    world.finish_deletions()
    world.work()
    (pod,) = world.pods()
    assert pod["metadata"]["ownerReferences"][0]["uid"] == world.uid


def test_a_new_job_goes_on_as_soon_as_the_old_lease_has_gone(fresh: World) -> None:
    labels = {LABEL_JOB: JOB, LABEL_JOB_UID: "former"}
    lease = {"metadata": {"name": JOB, "labels": labels}, "spec": {}}
    fresh.api.put(LEASES.kind, NAMESPACE, lease)
    fresh.work()
    assert fresh.pods() == []
    fresh.api.remove(LEASES.kind, NAMESPACE, JOB)
    fresh.work()
    assert len(fresh.pods()) == 1
