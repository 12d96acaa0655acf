"""The operator's small parts: its queue, its clocks of silence, its budgets, its reading."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from rtj_api.names import Cause, Reason
from rtj_api.status import EndedAttempt
from rtj_operator.cluster import ClusterError, ConflictError, Key, UnavailableError
from rtj_operator.config import Config, ConfigError
from rtj_operator.core.budget import backoff, idle_attempts, jittered
from rtj_operator.core.validate import parse_spec
from rtj_operator.parse import parse_heartbeat, parse_job, parse_pod
from rtj_operator.queue import BUSY_TURNS, UnfinishedError, WorkQueue
from rtj_operator.silence import Silences

from tests.unit.leaping_time import leaping
from tests.unit.operator_looks import NOW

pytestmark = pytest.mark.unit

KEY, OTHER = Key("ns", "a"), Key("ns", "b")


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestQueue:
    """One key, one worker, no turn lost."""

    async def run(self, queue: WorkQueue, worker: object, workers: int = 3) -> list[asyncio.Task]:  # type: ignore[type-arg]
        return [asyncio.create_task(queue.work(worker)) for _ in range(workers)]  # type: ignore[arg-type]

    @leaping
    async def test_a_key_added_often_while_it_waits_gets_one_turn(self) -> None:
        queue, turns = WorkQueue(), []
        for _ in range(5):
            queue.add(KEY)
        queue.add(OTHER)

        async def worker(key: Key) -> None:
            turns.append(key)

        tasks = await self.run(queue, worker)
        await asyncio.sleep(0.01)
        assert turns == [KEY, OTHER]
        for task in tasks:
            task.cancel()

    @leaping
    async def test_a_key_is_never_worked_on_twice_at_once_but_gets_another_turn(self) -> None:
        queue, gate = WorkQueue(), asyncio.Event()
        together = most = turns = 0

        async def worker(key: Key) -> None:
            nonlocal together, most, turns
            together, turns = together + 1, turns + 1
            most = max(most, together)
            await gate.wait()
            together -= 1

        tasks = await self.run(queue, worker)
        queue.add(KEY)
        await asyncio.sleep(0.01)
        queue.add(KEY)
        queue.add(KEY)
        await asyncio.sleep(0.01)
        gate.set()
        await asyncio.sleep(0.01)
        assert (most, turns) == (1, 2)
        for task in tasks:
            task.cancel()

    @leaping
    async def test_a_failed_turn_is_taken_again_and_harms_no_other_key(self) -> None:
        queue, done, failures = WorkQueue(), asyncio.Event(), 0

        async def worker(key: Key) -> None:
            nonlocal failures
            if key == KEY and failures < 2:
                failures += 1
                raise UnavailableError("down") if failures == 1 else ValueError("a bug")
            if key == KEY:
                done.set()

        tasks = await self.run(queue, worker, workers=1)
        queue.add(KEY)
        await asyncio.wait_for(done.wait(), 5)
        assert failures == 2
        for task in tasks:
            task.cancel()

    @pytest.mark.parametrize(
        ("asked", "order"),
        [
            ([(KEY, 30.0), (OTHER, 0.0)], [OTHER, KEY]),
            ([(KEY, 30.0), (OTHER, 20.0), (KEY, 0.0)], [KEY, OTHER]),
            ([(KEY, 0.0), (OTHER, 20.0), (KEY, 30.0)], [KEY, OTHER]),
            ([(KEY, 20.0), (OTHER, 30.0)], [KEY, OTHER]),
        ],
        ids=["patient", "less-patient-later", "no-more-patient-later", "in-order"],
    )
    @leaping
    async def test_who_has_patience_waits_for_others(
        self, asked: list[tuple[Key, float]], order: list[Key]
    ) -> None:
        queue, turns, over = WorkQueue(), list[Key](), asyncio.Event()
        for key, patience in asked:
            queue.add(key, patience)
        assert queue.depth() == 2

        async def worker(key: Key) -> None:
            turns.append(key)
            if queue.depth() == 0:
                over.set()

        tasks = await self.run(queue, worker, workers=1)
        await asyncio.wait_for(over.wait(), 5)
        await asyncio.sleep(0.01)
        assert turns == order
        for task in tasks:
            task.cancel()

    @contextlib.asynccontextmanager
    async def gated(
        self, queue: WorkQueue
    ) -> AsyncIterator[tuple[list[Key], list[Key], asyncio.Semaphore]]:
        """Give the keys of turns that have begun, `BUSY_TURNS` of them, and what ends a turn."""
        turns, gate = list[Key](), asyncio.Semaphore(0)

        async def worker(key: Key) -> None:
            turns.append(key)
            await gate.acquire()

        tasks = await self.run(queue, worker, workers=3 * BUSY_TURNS)
        busy = [Key("ns", f"{number}") for number in range(BUSY_TURNS)]
        for key in busy:
            queue.add(key)
        await asyncio.sleep(0.01)
        yield turns, busy, gate
        for task in tasks:
            task.cancel()

    @leaping
    async def test_who_has_patience_is_not_looked_after_beside_many_others(self) -> None:
        queue = WorkQueue()
        patient = [Key("ns", name) for name in ("p1", "p2", "p3")]
        async with self.gated(queue) as (turns, busy, gate):
            for key in patient:
                queue.add(key, 30.0)
            queue.add(OTHER)
            await asyncio.sleep(0.01)
            assert turns == [*busy, OTHER]
            assert queue.depth() == 3
            gate.release()
            gate.release()
            await asyncio.sleep(0.01)
            assert turns == [*busy, OTHER, patient[0]]
            await asyncio.sleep(30.0)
            queue.add(KEY)
            await asyncio.sleep(0.01)
            assert sorted(turns) == sorted([*busy, OTHER, *patient, KEY]), "patience is over"

    @leaping
    async def test_once_the_others_are_done_all_who_waited_are_looked_after_at_once(self) -> None:
        queue = WorkQueue()
        async with self.gated(queue) as (turns, busy, gate):
            for number in range(2 * BUSY_TURNS):
                queue.add(Key("ns", f"p{number}"), 30.0)
            await asyncio.sleep(0.01)
            for _ in busy:
                gate.release()
            await asyncio.sleep(0.01)
            assert len(turns) == 2 * BUSY_TURNS

    @leaping
    async def test_a_turn_that_asks_for_a_time_gets_it(self) -> None:
        queue, second = WorkQueue(), asyncio.Event()
        turns, loop = list[float](), asyncio.get_running_loop()

        async def worker(key: Key) -> float | None:
            turns.append(loop.time())
            if len(turns) == 1:
                return 5.0
            second.set()
            return None

        tasks = await self.run(queue, worker)
        queue.add(KEY)
        await asyncio.wait_for(second.wait(), 60)
        assert turns[1] - turns[0] == pytest.approx(5.0)
        for task in tasks:
            task.cancel()

    @leaping
    async def test_nothing_shortens_the_pause_that_the_api_server_asked_for(self) -> None:
        queue, turns, loop = WorkQueue(), list[float](), asyncio.get_running_loop()
        again = asyncio.Event()

        async def worker(key: Key) -> None:
            turns.append(loop.time())
            if len(turns) == 1:
                queue.add(KEY)  # Something happens during the turn, and after it.
                raise UnavailableError("too many requests", retry_after=0.3)
            again.set()

        tasks = await self.run(queue, worker)
        queue.add(KEY)
        await asyncio.sleep(0.01)
        queue.add(KEY)
        await asyncio.wait_for(again.wait(), 5)
        assert turns[1] - turns[0] >= 0.3
        queue.add(KEY)
        await asyncio.sleep(0.01)
        assert len(turns) == 3
        for task in tasks:
            task.cancel()


class TestUnfinished:
    """A turn that could not do all; other clocks of its job run."""

    async def pauses(self, due: float | None, cause: ClusterError, turns: int) -> list[float]:
        """Return the pauses between so many turns that each fail."""
        queue, began, enough = WorkQueue(), list[float](), asyncio.Event()

        async def worker(key: Key) -> None:
            began.append(asyncio.get_running_loop().time())
            if len(began) == turns:
                enough.set()
            raise UnfinishedError(cause, due)

        task = asyncio.create_task(queue.work(worker))
        queue.add(KEY)
        await enough.wait()
        task.cancel()
        return [later - earlier for earlier, later in itertools.pairwise(began)]

    @leaping
    async def test_it_is_taken_again_ever_later_but_not_after_the_next_clock(self) -> None:
        assert max(await self.pauses(None, UnavailableError("500"), 9)) > 6
        assert max(await self.pauses(2.0, UnavailableError("500"), 9)) == pytest.approx(2.0)

    @leaping
    async def test_what_was_in_its_way_counts_as_ever(self) -> None:
        assert max(await self.pauses(None, ConflictError("409"), 9)) == pytest.approx(1.0)
        told = UnavailableError("429", retry_after=5.0)
        assert min(await self.pauses(2.0, told, 3)) == pytest.approx(5.0)


class TestSilence:
    """Silence counts only while the API server is heard."""

    def test_it_grows_until_something_changes(self) -> None:
        clock = Clock()
        silences = Silences(clock)
        assert silences.seconds("node", "t0") == 0
        clock.now = 5
        silences.contact()
        assert silences.seconds("node", "t0") == 5
        assert silences.seconds("node", "t1") == 0

    def test_a_gap_without_contact_starts_every_clock_anew(self) -> None:
        clock = Clock()
        silences = Silences(clock)
        silences.seconds("node", "t0")
        clock.now = 20
        silences.contact()
        assert silences.of("node") == 0
        clock.now = 22
        silences.contact()
        assert silences.of("node") == 2

    def test_an_error_of_the_api_server_starts_every_clock_anew(self) -> None:
        clock = Clock()
        silences = Silences(clock)
        silences.seconds("node", "t0")
        for clock.now in (3.0, 6.0, 9.0):
            silences.contact()
        silences.interrupted()
        clock.now = 11
        silences.contact()
        assert silences.seconds("node", "t0") == 2

    def test_seconds_in_all_lose_no_more_than_each_gap_and_the_time_to_speak_again(self) -> None:
        clock = Clock()
        silences = Silences(clock)
        silences.seconds_in_all("trainer", "step 1")
        for clock.now in range(0, 2000, 2):
            silences.contact()
            if clock.now % 100 == 0:
                silences.interrupted()
        assert silences.of("trainer") < 100
        assert 1900 <= silences.seconds_in_all("trainer", "step 1") <= 1960
        assert silences.seconds_in_all("trainer", "step 2") == 0

    def test_seconds_in_all_wait_after_an_outage_until_all_can_have_spoken(self) -> None:
        clock = Clock()
        silences = Silences(clock)
        silences.seconds_in_all("trainer", "step 1")
        clock.now = 5
        silences.contact()
        for clock.now in (605, 608, 611, 614):
            silences.contact()
        assert silences.of("trainer") == 9
        silences.seconds_in_all("new", "step 1")
        assert silences.seconds_in_all("trainer", "step 1") == 5
        clock.now = 617
        silences.contact()
        assert silences.seconds_in_all("trainer", "step 1") == 7
        assert silences.seconds_in_all("new", "step 1") == 2

    def test_nothing_is_known_of_the_time_since_the_last_contact(self) -> None:
        clock = Clock()
        silences = Silences(clock)
        silences.seconds("node", "t0")
        clock.now = 4.0
        silences.contact()
        clock.now = 3600.0  # The process was stopped and goes on.
        assert silences.seconds("node", "t0") == silences.of("node") == 4
        silences.contact()
        assert silences.of("node") == 0

    def test_what_nobody_asks_for_is_forgotten(self) -> None:
        clock = Clock()
        silences = Silences(clock)
        silences.seconds("gone", 1)
        clock.now = 3601.0
        silences.seconds("here", 1)
        silences.contact()
        assert not silences.knows("gone")
        assert silences.knows("here")


def test_the_pause_doubles_up_to_six_minutes() -> None:
    assert [backoff(n) for n in range(8)] == [0, 10, 20, 40, 80, 160, 320, 360]


def test_a_pause_is_lengthened_by_up_to_half_and_always_the_same_for_one_attempt() -> None:
    pauses = [jittered(10, f"uid-{job}", attempt) for job in range(20) for attempt in range(20)]
    assert all(10 <= pause <= 15 for pause in pauses)
    assert len(set(pauses)) > 300
    assert max(pauses) - min(pauses) > 4.5
    assert jittered(10, "uid-0", 1) == jittered(10, "uid-0", 1)
    assert jittered(0, "uid-0", 1) == 0


def test_idle_attempts_are_counted_from_the_newest_commit() -> None:
    def ended(number: int, step: int | None, cause: Cause = Cause.PREEMPTED) -> EndedAttempt:
        return EndedAttempt(
            number=number,
            cause=cause,
            reason=Reason.EVICTED,
            committed_step=step,
            start_time=NOW,
            end_time=NOW,
        )

    assert idle_attempts([]) == 0
    assert idle_attempts([ended(1, None), ended(2, None)]) == 2
    assert idle_attempts([ended(1, 10), ended(2, 10), ended(3, 10)]) == 2
    assert idle_attempts([ended(1, 10), ended(2, 20)]) == 0
    assert idle_attempts([ended(1, 10), ended(2, 10, Cause.HUNG)]) == 0


GOOD = {
    "builder": {"configMap": {"name": "code"}},
    "epochs": 1,
    "checkpoint": {"claimName": "work"},
    "trainer": {"image": "i"},
}


def message_rule(pattern: str) -> dict[str, object]:
    return {"action": "Fail", "onTerminationMessage": {"pattern": pattern}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainer": {}}, ["spec.trainer.image", "missing"]),
        ({"seed": "x"}, ["spec.seed", "'x'"]),
        ({"totalSteps": 5}, ["spec.epochs", "spec.totalSteps", "exactly one"]),
        ({"builder": {"configMap": {"name": "a"}, "claim": {"name": "b"}}}, ["at most one"]),
        (
            {"failurePolicy": {"rules": [{"action": "Fail"}]}},
            ["spec.failurePolicy.rules[0]", "exactly one"],
        ),
        (
            {"failurePolicy": {"rules": [message_rule("a"), message_rule("(")]}},
            ["spec.failurePolicy.rules[1].onTerminationMessage.pattern '('", "unclosed group"],
        ),
        (
            {"failurePolicy": {"rules": [message_rule("(?=x)")]}},
            ["rules[0].onTerminationMessage.pattern", "look-ahead", "not supported"],
        ),
        (
            {"failurePolicy": {"rules": [message_rule("(a{1,40}){1,40}")]}},
            ["rules[0].onTerminationMessage.pattern", "more than 3 digits"],
        ),
        (
            {"failurePolicy": {"rules": [{**message_rule("a"), "action": "Retry"}]}},
            ["spec.failurePolicy.rules.0.action", "'Retry'"],
        ),
        ({"builder": {"datasetParams": {"x": "y" * 100_000}}}, ["datasetParams", "bytes"]),
        *(
            ({"builder": {"trainFunction": "f", other: "g"}}, ["trainFunction", other])
            for other in ("callbacksFunction", "validationFunction")
        ),
        *(
            (
                {"trainer": {"image": "i", "podTemplate": {"spec": pod}}},
                ["spec.trainer.podTemplate.spec.initContainers", repr(name), "of its own"],
            )
            for name, pod in [
                ("trainer", {"initContainers": [{"name": "a"}, {"name": "trainer"}]}),
                ("b", {"initContainers": [{"name": "b"}], "containers": [{"name": "b"}]}),
            ]
        ),
    ],
)
def test_a_wrong_spec_is_answered_with_its_field(change: dict[str, object], words: list) -> None:  # type: ignore[type-arg]
    spec, error = parse_spec("job", {**GOOD, **change})
    assert spec is None
    assert all(word in error for word in words), error


def test_a_good_spec_is_taken_and_a_long_name_refused() -> None:
    assert parse_spec("job", GOOD)[1] == ""
    assert "metadata.name" in parse_spec("j" * 48, GOOD)[1]


def test_a_name_with_a_dot_is_refused() -> None:
    assert "metadata.name 'a.b' has a dot" in parse_spec("a.b", GOOD)[1]


def test_a_heartbeat_that_makes_no_sense_is_no_heartbeat() -> None:
    lease = {"metadata": {"annotations": {"resumable.training/heartbeat": '{"attempt": "?"}'}}}
    assert parse_heartbeat(lease, "uid") is None
    assert parse_heartbeat({"metadata": {}}, "uid") is None


@pytest.mark.parametrize("finalizer", ["orphan", "foregroundDeletion", "example.com/backup"])
def test_only_the_finalizer_orphan_says_that_pods_outlive_a_job(finalizer: str) -> None:
    marks: dict[str, Any] = {"deletionTimestamp": "2026-05-01T12:00:00Z", "finalizers": [finalizer]}
    meta = {"name": "job", "namespace": "ns", "uid": "u", **marks}
    job = parse_job({"metadata": meta, "spec": GOOD})
    assert (job.deleting, job.orphans) == (True, finalizer == "orphan")
    del meta["deletionTimestamp"]
    lives = parse_job({"metadata": meta, "spec": GOOD})
    assert (lives.deleting, lives.orphans) == (False, False)


def test_an_empty_pod_is_one_of_which_nothing_is_known_yet() -> None:
    pod = parse_pod({"metadata": {"name": "p", "uid": "u"}})
    assert (pod.attempt, pod.node, pod.ended, pod.started) == (0, None, False, False)


def test_a_pod_waits_for_its_init_container_first() -> None:
    def status(name: str, reason: str) -> dict[str, object]:
        return {"name": name, "state": {"waiting": {"reason": reason}}}

    raw = {
        "metadata": {"name": "p", "uid": "u"},
        "status": {
            "initContainerStatuses": [status("fetch", "ErrImagePull")],
            "containerStatuses": [status("trainer", "PodInitializing")],
        },
    }
    waiting = parse_pod(raw).waiting
    assert waiting
    assert (waiting.container, waiting.reason) == ("fetch", "ErrImagePull")


def of_sidecar(restarts: int, *, started: bool, **state: Any) -> dict[str, Any]:
    return {"name": "proxy", "restartCount": restarts, "started": started, "state": state}


BACKS_OFF = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}
RUNS = {"startedAt": "2026-05-01T12:00:00Z"}
NOT_BEGUN = {"name": "fetch", "state": {"waiting": {"reason": "PodInitializing"}}}


def waits_for(*before: dict[str, Any]) -> tuple[str, str] | None:
    """Return which container a pod waits for whose trainer has not begun, and why."""
    trainer = {"name": "trainer", "state": {"waiting": {"reason": "PodInitializing"}}}
    status = {"initContainerStatuses": list(before), "containerStatuses": [trainer]}
    waiting = parse_pod({"metadata": {"name": "p", "uid": "u"}, "status": status}).waiting
    return (waiting.container, waiting.reason) if waiting else None


@pytest.mark.parametrize(
    "sidecar",
    [
        of_sidecar(1, started=False, waiting=BACKS_OFF),
        of_sidecar(2, started=False, running=RUNS),
        of_sidecar(3, started=False, terminated={"exitCode": 1}),
    ],
)
def test_a_sidecar_that_crashes_before_the_trainer_does_so_also_while_it_runs(
    sidecar: dict[str, Any],
) -> None:
    assert waits_for(sidecar, NOT_BEGUN) == ("proxy", "CrashLoopBackOff")


@pytest.mark.parametrize(
    "sidecar",
    [
        of_sidecar(0, started=False, running=RUNS),
        of_sidecar(1, started=False, running=RUNS),
        of_sidecar(9, started=True, running=RUNS),
        of_sidecar(9, started=False, terminated={"exitCode": 0}),
    ],
)
def test_a_sidecar_that_starts_or_is_through_does_not_crash(
    sidecar: dict[str, Any],
) -> None:
    assert waits_for(sidecar, NOT_BEGUN) == ("fetch", "PodInitializing")


@pytest.mark.parametrize("reason", ["CrashLoopBackOff", "ErrImagePull"])
def test_a_sidecar_keeps_nobody_waiting_once_a_later_container_has_begun(reason: str) -> None:
    sidecar = of_sidecar(9, started=False, waiting={"reason": reason})
    fetches = {"name": "fetch", "restartCount": 0, "state": {"running": RUNS}}
    assert waits_for(sidecar, fetches) == ("trainer", "PodInitializing")


def test_the_exits_of_all_containers_are_read() -> None:
    def ended(name: str, code: int) -> dict[str, object]:
        return {"name": name, "state": {"terminated": {"exitCode": code}}}

    raw = {
        "metadata": {"name": "p", "uid": "u"},
        "status": {
            "initContainerStatuses": [ended("fetch", 0)],
            "containerStatuses": [ended("trainer", 1), {"name": "b", "state": {"running": {}}}],
        },
    }
    assert parse_pod(raw).exits == (("fetch", 0), ("trainer", 1))


@pytest.mark.parametrize(
    ("state", "spent"),
    [({"running": {}}, False), ({"waiting": {}}, False), ({"terminated": {"exitCode": 0}}, True)],
)
def test_a_pod_is_spent_only_when_its_companions_have_ended_too(
    state: dict[str, Any], spent: bool
) -> None:
    trainer: dict[str, Any] = {"name": "trainer", "state": {"terminated": {"exitCode": 1}}}
    status: dict[str, Any] = {
        "phase": "Running",
        "initContainerStatuses": [{"name": "proxy", "state": {"running": {}}}],
        "containerStatuses": [{"name": "shipper", "state": state}, trainer],
    }
    raw: dict[str, Any] = {"metadata": {"name": "p", "uid": "u"}, "status": status}
    assert parse_pod(raw).spent is spent
    trainer["state"] = {"running": {}}
    assert not parse_pod(raw).spent
    status["phase"] = "Failed"
    assert parse_pod(raw).spent


@pytest.mark.parametrize("state", ["running", "terminated"])
def test_the_times_of_a_pod_are_read(state: str) -> None:
    bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-05-01T12:00:02Z"}
    started = {"name": "trainer", "state": {state: {"startedAt": "2026-05-01T12:00:09Z"}}}
    raw: dict[str, Any] = {
        "metadata": {"name": "p", "uid": "u", "creationTimestamp": "2026-05-01T12:00:00Z"},
        "status": {"conditions": [bound], "containerStatuses": [started]},
    }
    pod = parse_pod(raw)
    times = [pod.created_time, pod.scheduled_time, pod.started_time]
    assert times == [NOW, NOW + timedelta(seconds=2), NOW + timedelta(seconds=9)]
    raw["metadata"]["creationTimestamp"] = "now"
    assert parse_pod(raw).created_time is None


def test_the_configuration_names_the_variable_that_is_wrong() -> None:
    config = Config.from_env({"RTJ_NAMESPACES": "a, b", "RTJ_NODE_SILENCE_SECONDS": "20"})
    assert config.namespaces == ("a", "b")
    assert config.settings.node_silence == 20
    assert config.lease == "rtj-operator"
    assert Config.from_env({"RTJ_LEASE": "train-rtj-operator"}).lease == "train-rtj-operator"
    with pytest.raises(ConfigError, match="RTJ_WORKERS='many'"):
        Config.from_env({"RTJ_WORKERS": "many"})
    with pytest.raises(ConfigError, match="at least 1"):
        Config.from_env({"RTJ_RESYNC_SECONDS": "0"})
    with pytest.raises(ConfigError, match="RTJ_NODE_SILENCE_SECONDS='10' must be at least 11"):
        Config.from_env({"RTJ_NODE_SILENCE_SECONDS": "10"})


@pytest.mark.parametrize(
    ("name", "word", "problem"),
    [
        ("RTJ_NODE_SILENCE_SECONDS", "nan", "is not a number"),
        ("RTJ_RESYNC_SECONDS", "inf", "is not a number"),
        ("RTJ_WORKERS", "nan", "is not a number"),
        ("RTJ_LOG_LEVEL", "chatty", "must be one of CRITICAL"),
    ],
)
def test_a_word_that_no_setting_can_be_is_refused_with_its_variable(
    name: str, word: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{name}='{word}' {problem}"):
        Config.from_env({name: word})


@pytest.mark.parametrize(("word", "level"), [("debug", "DEBUG"), ("", "INFO")])
def test_a_log_level_is_taken_in_any_case_and_if_empty_as_usual(word: str, level: str) -> None:
    assert Config.from_env({"RTJ_LOG_LEVEL": word}).log_level == level
