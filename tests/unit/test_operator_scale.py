"""What keeps the operator quick where there are many jobs: looks and reads it can do without."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from rtj_api.names import LABEL_ATTEMPT, LABEL_JOB, Phase
from rtj_api.spec import JobSpec
from rtj_api.status import JobStatus
from rtj_operator import metrics, passing_over
from rtj_operator.cluster import NODE_LEASES, Key
from rtj_operator.core.decision import EnsureObjects
from rtj_operator.core.observed import Job
from rtj_operator.core.rest import at_rest
from rtj_operator.handlers import Handlers
from rtj_operator.health import Pulse
from rtj_operator.memory import Memory
from rtj_operator.parse import parse_job
from rtj_operator.queue import WorkQueue

from tests.unit.leaping_time import leaping
from tests.unit.operator_looks import (
    NODE,
    NOW,
    after,
    beat,
    created,
    decided,
    exited,
    look,
    running,
    spec,
)

pytestmark = pytest.mark.unit

SUSPENDED = JobStatus(phase=Phase.SUSPENDED, observed_generation=1)
COMPLETED = JobStatus(phase=Phase.COMPLETED, observed_generation=1)


def resting(status: JobStatus, **policy: Any) -> bool:
    return at_rest(Job("ns", "job", "uid", 1, status, spec(runPolicy=policy)))


class TestRest:
    """A job that wants nothing costs nothing, and only such a job."""

    def test_a_suspended_and_a_finished_job_rest(self) -> None:
        assert resting(SUSPENDED, suspend=True)
        assert resting(COMPLETED)
        assert resting(replace_phase(COMPLETED, Phase.FAILED))

    def test_a_failed_job_rests_though_its_spec_makes_no_sense(self) -> None:
        status = replace_phase(COMPLETED, Phase.FAILED)
        assert at_rest(Job("ns", "job", "uid", 1, status, None, "wrong"))

    @pytest.mark.parametrize(
        ("status", "policy"),
        [
            (running(), {}),
            (SUSPENDED, {"suspend": False}),
            (SUSPENDED.model_copy(update={"next_attempt_time": NOW}), {"suspend": True}),
            (SUSPENDED, {"suspend": True, "activeDeadlineSeconds": 60}),
            (COMPLETED, {"ttlSecondsAfterFinished": 60}),
            (JobStatus(), {"suspend": True}),
        ],
    )
    def test_one_that_runs_or_resumes_or_has_a_clock_does_not(
        self, status: JobStatus, policy: dict[str, Any]
    ) -> None:
        assert not resting(status, **policy)

    def test_one_whose_newest_spec_was_not_looked_at_does_not(self) -> None:
        changed = Job("ns", "job", "uid", 2, SUSPENDED, spec(runPolicy={"suspend": True}))
        assert not at_rest(changed)

    def test_one_that_is_being_deleted_does_not(self) -> None:
        job = Job("ns", "job", "uid", 1, COMPLETED, spec())
        assert not at_rest(replace(job, deleting=True))


def replace_phase(status: JobStatus, phase: Phase) -> JobStatus:
    return status.model_copy(update={"phase": phase})


class TestRelaunch:
    """The account, its right and the Lease are looked at when they might not be there."""

    def ensures(self, *actions: object) -> bool:
        return any(isinstance(action, EnsureObjects) for action in actions)

    def test_what_the_last_trainer_has_used_is_not_looked_at_again(self) -> None:
        decision = decided(look(exited(75), status=running(), heartbeat=beat()))
        assert created(decision) == ["job-2-0"]
        assert not self.ensures(*decision.actions)

    def test_after_an_attempt_that_never_wrote_to_its_lease_it_is(self) -> None:
        silent = running(2)
        decision = decided(look(exited(75, attempt=2), status=silent, heartbeat=beat(attempt=1)))
        assert created(decision) == ["job-3-0"]
        assert self.ensures(*decision.actions)

    def test_when_the_pod_was_refused_or_the_operator_died_before_it_made_it_it_is(self) -> None:
        before = look(exited(75), status=running(), heartbeat=beat())
        again = decided(after(before, decided(before)))
        assert created(again) == ["job-2-0"]
        assert self.ensures(*again.actions)

    def test_a_first_attempt_needs_it(self) -> None:
        assert self.ensures(*decided(look(lease_found=False)).actions)


class Events:
    """The handlers, and which of the events that they are given ask for a look."""

    def __init__(self, *, leads: bool = True) -> None:
        memory = Memory()
        self.queue = WorkQueue()
        self.handlers = Handlers(self.queue, memory, Pulse(memory.silences))
        if leads:
            self.handlers.lead()

    async def looks(self) -> list[str]:
        """Return the names of the jobs that wait for a look, and take them off the queue."""
        seen: list[str] = []

        async def worker(key: Key) -> None:
            seen.append(key.name)

        task = asyncio.create_task(self.queue.work(worker))
        await asyncio.sleep(0.01)
        task.cancel()
        return seen

    async def of_pod(self, kind: str | None, raw: dict[str, Any]) -> bool:
        self.handlers.pod(kind, raw)
        return await self.looks() == ["job"]


def raw_pod(node: str | None = None, phase: str = "Pending", **meta: Any) -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "True"}] if node else []
    return {
        "metadata": {
            "name": "job-1-0",
            "namespace": "ns",
            "uid": "pod-1",
            "resourceVersion": "1",
            "labels": {LABEL_JOB: "job", LABEL_ATTEMPT: "1"},
            **meta,
        },
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "conditions": conditions},
    }


@leaping
async def test_of_a_pods_life_only_what_is_new_asks_for_a_look() -> None:
    events, asked = Events(), {"deletionTimestamp": "2026-05-01T12:00:00Z"}
    gone = {**asked, "deletionGracePeriodSeconds": 60}
    life: list[tuple[str | None, dict[str, Any], bool]] = [
        ("ADDED", raw_pod(), False),  # We made it, and nothing has happened to it.
        ("MODIFIED", raw_pod(NODE), True),
        ("MODIFIED", raw_pod(NODE, annotations={"of": "somebody"}), False),
        ("MODIFIED", raw_pod(NODE, "Running"), True),
        ("MODIFIED", raw_pod(NODE, "Running", **gone), True),
        ("MODIFIED", raw_pod(NODE, "Failed", **gone), True),
        # Its end was news already, and the kubelet lets it go.
        ("MODIFIED", raw_pod(NODE, "Failed", **asked, deletionGracePeriodSeconds=0), False),
        ("DELETED", raw_pod(NODE, "Failed", **gone), False),
    ]
    assert [await events.of_pod(kind, raw) for kind, raw, _ in life] == [
        news for _, _, news in life
    ]


@leaping
async def test_a_pod_that_goes_without_having_ended_is_news() -> None:
    events = Events()
    assert await events.of_pod("MODIFIED", raw_pod(NODE, "Running"))
    assert await events.of_pod("DELETED", raw_pod(NODE, "Running"))


@leaping
async def test_a_new_process_looks_at_every_pod_that_it_finds() -> None:
    assert await Events().of_pod(None, raw_pod())


def raw_job(
    status: JobStatus, generation: int = 1, name: str = "job", **policy: Any
) -> dict[str, Any]:
    fields: JobSpec = spec(runPolicy=policy)
    return {
        "metadata": {
            "namespace": "ns",
            "name": name,
            "uid": f"uid-{name}",
            "generation": generation,
            "resourceVersion": str(generation),
        },
        "spec": fields.model_dump(mode="json", by_alias=True, exclude_none=True),
        "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


@leaping
async def test_of_the_jobs_there_are_those_at_rest_are_passed_over_until_they_change() -> None:
    events = Events()
    events.handlers.job(None, raw_job(SUSPENDED, suspend=True))
    assert await events.looks() == []
    events.handlers.job("MODIFIED", raw_job(SUSPENDED, 2, suspend=False))
    assert await events.looks() == ["job"]


def test_a_job_at_rest_is_not_even_read_again_until_it_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []

    def counted(raw: dict[str, Any]) -> Job:
        read.append(raw["metadata"]["resourceVersion"])
        return parse_job(raw)

    monkeypatch.setattr(passing_over, "parse_job", counted)
    memory, again = Memory(), raw_job(SUSPENDED, 2, suspend=False)
    for _ in range(3):
        assert passing_over.passed_over(raw_job(SUSPENDED, suspend=True), memory)
    for _ in range(2):
        assert not passing_over.passed_over(again, memory)
    assert read == ["1", "2", "2"]
    memory.forget(Key("ns", "job"))
    assert passing_over.passed_over(raw_job(SUSPENDED, suspend=True), memory)
    assert read[3:] == ["1"]


def owned(pod: dict[str, Any], name: str = "job") -> dict[str, Any]:
    """Return the pod as one of that job."""
    pod["metadata"]["ownerReferences"] = [{"uid": f"uid-{name}", "controller": True}]
    return pod


@pytest.mark.parametrize(
    ("phase", "rests"), [("Pending", False), ("Running", False), ("Failed", True)]
)
def test_a_job_at_rest_is_looked_at_while_a_pod_of_it_lives(phase: str, rests: bool) -> None:
    memory, job = Memory(), raw_job(COMPLETED)
    handlers = Handlers(WorkQueue(), memory, Pulse(memory.silences))
    assert passing_over.passed_over(job, memory)
    handlers.pod(None, owned(raw_pod(NODE, phase)))
    assert passing_over.passed_over(job, memory) is rests
    handlers.pod("DELETED", owned(raw_pod(NODE, phase)))
    assert passing_over.passed_over(job, memory)


def test_a_page_that_was_read_long_ago_hides_no_end_of_a_pod() -> None:
    memory, key, pod = Memory(), Key("ns", "job"), owned(raw_pod(NODE, "Running"))
    handlers = Handlers(WorkQueue(), memory, Pulse(memory.silences))
    page = raw_job(SUSPENDED, suspend=True)
    handlers.job("MODIFIED", raw_job(running(), 2))
    handlers.pod("ADDED", pod)
    handlers.pod("DELETED", pod)
    assert not passing_over.passed_over(page, memory)
    assert memory.last_pod(key, "uid-job")


def test_a_pod_of_a_former_job_of_that_name_keeps_nobody_from_rest() -> None:
    memory = Memory()
    handlers = Handlers(WorkQueue(), memory, Pulse(memory.silences))
    handlers.pod(None, owned(raw_pod(NODE, "Running"), "former"))
    assert passing_over.passed_over(raw_job(COMPLETED), memory)


@leaping
async def test_a_job_whose_status_cannot_be_read_is_looked_at() -> None:
    events, job = Events(), raw_job(SUSPENDED, suspend=True)
    job["status"]["phase"] = "OfAnotherVersion"
    events.handlers.job(None, job)
    assert await events.looks() == ["job"]


@leaping
async def test_who_waits_to_lead_asks_for_nothing_and_then_only_for_what_cannot_wait() -> None:
    events, jobs = Events(leads=False), ("trains", "preempted", "gone", "deleted")
    for name in jobs:
        events.handlers.job(None, raw_job(running(), name=name))
        owner = [{"uid": f"uid-{name}", "controller": True}]
        pod = raw_pod(
            NODE,
            "Running",
            uid=f"pod-{name}",
            labels={LABEL_JOB: name, LABEL_ATTEMPT: "1"},
            ownerReferences=owner,
        )
        events.handlers.pod(None, pod)
        if name == "preempted":
            pod["metadata"] |= {"deletionTimestamp": "2026-05-01T12:00:00Z", "resourceVersion": "2"}
            events.handlers.pod("MODIFIED", pod)
        if name in ("gone", "deleted"):
            events.handlers.pod("DELETED", pod)
    events.handlers.job("DELETED", raw_job(running(), name="deleted"))
    events.handlers.job(None, raw_job(SUSPENDED, name="rests", suspend=True))
    assert events.queue.depth() == 0
    assert Key("ns", "rests") not in metrics.JOBS.known()
    events.handlers.lead()
    assert sorted(await events.looks()) == ["gone", "preempted"]
    events.handlers.job("MODIFIED", raw_job(running(), 2, name="trains"))
    assert await events.looks() == ["trains"]


@pytest.mark.parametrize("kind", ["MODIFIED", "DELETED"])
def test_who_waits_to_lead_keeps_no_pod_of_a_job_that_is_at_rest_or_gone(kind: str) -> None:
    memory, key, pod = Memory(), Key("ns", "job"), owned(raw_pod(NODE, "Running"))
    handlers = Handlers(WorkQueue(), memory, Pulse(memory.silences))
    handlers.job(None, raw_job(running()))
    handlers.pod(None, pod)
    handlers.pod("DELETED", pod)
    assert memory.last_pod(key, "uid-job")
    handlers.job(kind, raw_job(COMPLETED))
    assert memory.last_pod(key, "uid-job") is None


def test_a_node_whose_lease_goes_with_it_has_not_spoken() -> None:
    now = 100.0
    memory = Memory(clock=lambda: now)
    handlers = Handlers(WorkQueue(), memory, Pulse(memory.silences))
    meta = {"namespace": NODE_LEASES, "name": NODE}
    handlers.lease(None, {"metadata": meta, "spec": {"renewTime": "2026-05-01T12:00:00Z"}})
    now += 5.0
    memory.silences.contact()
    handlers.lease("DELETED", {"metadata": meta})  # As a list tells it, by its absence.
    assert memory.silences.of(("node", NODE)) == 5.0


@leaping
async def test_a_resync_lets_go_first_what_has_just_happened() -> None:
    events = Events()
    await events.queue.add_last(Key("ns", "quiet-0"))
    resyncing = asyncio.create_task(events.queue.add_last(Key("ns", "quiet-1")))
    await asyncio.sleep(0.01)
    events.queue.add(Key("ns", "preempted"))
    assert await events.looks() == ["quiet-0", "preempted", "quiet-1"]
    assert resyncing.done()
