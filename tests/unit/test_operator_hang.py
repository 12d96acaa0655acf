"""A trainer that stands still is asked for its stacks and replaced; a healthy one never is."""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from rtj_api.heartbeat import Heartbeat, StackDump, TrainerPhase
from rtj_api.names import ANNOTATION_HEARTBEAT, LABEL_JOB, LABEL_JOB_UID, Cause, Phase, Reason
from rtj_api.status import Restarts
from rtj_operator.cluster import LEASES, Key, Kind, Manifest, RejectedError
from rtj_operator.core.decision import AskForStacks, CreatePod, Decision, EnsureObjects
from rtj_operator.core.observed import Observed, Silence
from rtj_operator.handlers import Handlers
from rtj_operator.health import Pulse
from rtj_operator.memory import Memory
from rtj_operator.queue import WorkQueue

from tests.model.world import HANG_SECONDS, JOB, NAMESPACE, Trainer, World
from tests.unit.leaping_time import leaping
from tests.unit.operator_looks import (
    beat,
    created,
    decided,
    deleted,
    look,
    notices,
    pod,
    running,
    spec,
)

pytestmark = pytest.mark.unit

POLICY = {
    "startingTimeoutSeconds": 100,
    "restoringTimeoutSeconds": 200,
    "trainingTimeoutSeconds": 300,
    "savingTimeoutSeconds": 400,
}
TIMEOUTS = {
    TrainerPhase.STARTING: 100,
    TrainerPhase.RESTORING: 200,
    TrainerPhase.TRAINING: 300,
    TrainerPhase.SAVING: 400,
}
STANDSTILL = "000001-Training-10"


def still(seconds: float, heartbeat: Heartbeat | None = None, **fields: Any) -> Observed:
    """Return a look at a trainer that has stood still for so long; if asked, then in time."""
    silence = fields.pop("silence", Silence(progress=seconds, asked=max(seconds - 300, 0)))
    return look(
        pod(),
        status=running(),
        spec=spec(hangPolicy=POLICY),
        heartbeat=heartbeat or beat(10),
        silence=silence,
        since_mirrored=0,
        **fields,
    )


def asked(decision: Decision) -> list[str]:
    return [a.standstill for a in decision.actions if isinstance(a, AskForStacks)]


def answer(path: str | None = f"uid/stacks/{STANDSTILL}.txt", about: str = STANDSTILL) -> Heartbeat:
    return beat(10, stacks=StackDump(standstill=about, path=path))


class TestAsking:
    """What is done about a trainer that stands still."""

    @pytest.mark.parametrize(("phase", "seconds"), TIMEOUTS.items())
    def test_each_phase_has_a_timeout_of_its_own(self, phase: TrainerPhase, seconds: int) -> None:
        here = beat(10, phase=phase)
        patient = decided(still(seconds - 3, here))
        assert (asked(patient), patient.requeue_after) == ([], 3)
        assert asked(decided(still(seconds, here))) == [f"000001-{phase}-10"]

    def test_without_a_heartbeat_the_timeout_of_starting_counts_from_the_container(self) -> None:
        observed = look(
            pod(),
            status=running(),
            spec=spec(hangPolicy=POLICY),
            silence=Silence(heartbeat=100, progress=100),
        )
        assert asked(decided(observed)) == ["000001-Starting-0"]

    def test_a_silent_heartbeat_on_a_live_node_is_given_the_same_timeout(self) -> None:
        silent = Silence(heartbeat=299, node_lease=1, progress=299)
        assert asked(decided(still(0, silence=silent))) == []
        silent = Silence(heartbeat=300, node_lease=1, progress=300)
        assert asked(decided(still(0, silence=silent))) == [STANDSTILL]

    def test_the_pod_stays_while_the_trainer_is_asked(self) -> None:
        decision = decided(still(300))
        assert asked(decision) == [STANDSTILL]
        assert deleted(decision) == []
        assert decision.requeue_after == 10
        assert decision.status.phase is Phase.RUNNING

    def test_what_it_needs_to_speak_is_looked_for_before_the_pod_goes(self) -> None:
        ensures, asks = decided(still(300)).actions
        assert isinstance(ensures, EnsureObjects)
        assert isinstance(asks, AskForStacks)

    def test_and_again_before_its_successor_comes(self) -> None:
        paused = decided(still(310, stacks_asked=STANDSTILL))
        assert paused.status.attempts[-1].cause is Cause.HUNG
        ensures, creates = decided(
            look(status=paused.status, heartbeat=beat(10), spec=spec(hangPolicy=POLICY)), 30
        ).actions
        assert isinstance(ensures, EnsureObjects)
        assert isinstance(creates, CreatePod)

    def test_it_is_asked_once(self) -> None:
        decision = decided(still(305, stacks_asked=STANDSTILL))
        assert (asked(decision), deleted(decision)) == ([], [])

    def test_a_look_that_comes_a_moment_early_is_soon_followed_by_the_next(self) -> None:
        decision = decided(still(309.9, stacks_asked=STANDSTILL))
        assert (deleted(decision), decision.requeue_after) == ([], 0.5)

    def test_once_it_has_answered_it_is_replaced_and_counted(self) -> None:
        decision = decided(still(302, answer(), stacks_asked=STANDSTILL))
        assert deleted(decision) == ["pod-1"]
        assert created(decision) == []
        assert decision.status.restarts == Restarts(hung=1, total=1)
        assert decision.status.next_attempt_time
        ended = decision.status.attempts[0]
        assert (ended.cause, ended.reason) == (Cause.HUNG, Reason.TRAINER_HUNG)
        assert notices(decision) == [Reason.TRAINER_HUNG]
        for text in (ended.message, decision.notices[0].message):
            assert "in phase Training at step 10 for 300 s" in text
            assert "spec.hangPolicy.trainingTimeoutSeconds" in text
            assert f"uid/stacks/{STANDSTILL}.txt on claim work" in text

    def test_one_that_could_write_no_file_has_its_stacks_in_the_log(self) -> None:
        decision = decided(still(302, answer(path=None), stacks_asked=STANDSTILL))
        assert "in the log of its pod" in decision.status.attempts[0].message

    def test_one_that_does_not_answer_is_replaced_after_ten_seconds(self) -> None:
        stuck = beat(10, watchdog_path="uid/stacks/000001-stuck.txt")
        silence = Silence(heartbeat=310, node_lease=1, progress=310, asked=10)
        decision = decided(still(0, stuck, silence=silence, stacks_asked=STANDSTILL))
        assert deleted(decision) == ["pod-1"]
        message = decision.status.attempts[0].message
        assert "last heartbeat was 310 s ago" in message
        assert "uid/stacks/000001-stuck.txt on claim work" in message

    @pytest.mark.parametrize(
        ("still_for", "asked_for"), [(329, 0), (300, 200)], ids=["asked late", "asked long ago"]
    )
    def test_it_has_ten_seconds_from_when_it_is_both_hung_and_asked(
        self, still_for: float, asked_for: float
    ) -> None:
        def later(seconds: float) -> Decision:
            silence = Silence(progress=still_for + seconds, asked=asked_for + seconds)
            return decided(still(0, silence=silence, stacks_asked=STANDSTILL))

        assert (deleted(later(0)), later(0).requeue_after) == ([], 10)
        assert deleted(later(9)) == []
        assert deleted(later(10)) == ["pod-1"]

    def test_what_it_said_of_an_earlier_standstill_is_no_answer(self) -> None:
        decision = decided(still(300, answer(about="000001-Training-5")))
        assert (asked(decision), deleted(decision)) == ([STANDSTILL], [])

    def test_one_that_moves_after_all_is_left_alone(self) -> None:
        moved = beat(11, stacks=StackDump(standstill=STANDSTILL, path="x"))
        decision = decided(still(0, moved, stacks_asked=STANDSTILL))
        assert decision.actions == ()

    def test_if_the_question_cannot_be_written_it_is_replaced_without(self) -> None:
        assert deleted(decided(still(329))) == []
        assert deleted(decided(still(330))) == ["pod-1"]

    def test_a_jump_of_the_operators_wall_clock_hangs_nobody(self) -> None:
        for jump in (-1e6, 1e6):
            assert decided(still(299), seconds=jump).actions == ()


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world whose trainer has taken five steps."""
    world = World()
    world.work()
    world.schedule()
    world.start_containers()
    world.train(trainer_of(world), 5)
    world.work()
    yield world
    world.close()


def trainer_of(world: World) -> Trainer:
    (trainer,) = world.trainers.values()
    return trainer


def attempt(world: World) -> int:
    current = world.status().attempt
    assert current
    return current.number


class TestInTheLoop:
    """Over time, with the real loop."""

    @pytest.mark.parametrize("stuck", [False, True])
    def test_a_hung_trainer_is_asked_and_then_replaced(self, world: World, stuck: bool) -> None:
        trainer = trainer_of(world)
        trainer.hung, trainer.stuck = True, stuck
        world.advance(HANG_SECONDS - 1)
        assert attempt(world) == 1
        world.advance(13)
        ended = world.status().attempts[0]
        assert ended.cause is Cause.HUNG
        name = "000001-stuck" if stuck else "000001-Training-5"
        assert f"{world.uid}/stacks/{name}.txt" in ended.message
        assert "deletionTimestamp" in world.pods()[0]["metadata"]

    @pytest.mark.parametrize("stuck", [False, True])
    def test_answers_that_are_lost_now_and_then_save_no_hung_trainer(
        self, world: World, stuck: bool
    ) -> None:
        trainer = trainer_of(world)
        trainer.hung, trainer.stuck = True, stuck
        for _ in range((HANG_SECONDS + 40) // 20):
            world.api.fail_next = 1
            world.advance(20)
        assert world.status().attempts[0].cause is Cause.HUNG

    def test_one_that_moves_while_it_is_asked_stays(self, world: World) -> None:
        trainer = trainer_of(world)
        trainer.hung = trainer.stuck = True
        world.advance(HANG_SECONDS + 5)
        assert world.asked == {1}
        trainer.hung = trainer.stuck = False
        world.train(trainer, 1)
        world.advance(HANG_SECONDS - 5)
        assert attempt(world) == 1

    def test_one_that_is_asked_late_has_its_time_to_move_all_the_same(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = trainer_of(world)
        trainer.hung = trainer.stuck = True
        with monkeypatch.context() as busy:
            busy.setattr(world, "work", lambda: None)  # Other jobs have all the turns.
            world.advance(HANG_SECONDS + 25)
        world.advance(8)
        assert world.asked == {1}
        trainer.hung = trainer.stuck = False
        world.train(trainer, 1)
        world.advance(20)
        assert attempt(world) == 1

    def test_one_that_only_lost_its_right_to_speak_gets_it_back_and_stays(
        self, world: World
    ) -> None:
        trainer, right = trainer_of(world), ("Role", NAMESPACE, f"{JOB}-trainer")
        world.api.remove(*right)
        trainer.stuck = True
        world.advance(HANG_SECONDS + 2)
        assert right in world.api.objects
        trainer.stuck = False
        world.train(trainer, 1)
        world.advance(30)
        assert attempt(world) == 1

    def test_if_the_question_is_refused_the_pod_is_replaced_all_the_same(
        self, world: World
    ) -> None:
        async def refuse(*_: Any) -> Manifest:
            raise RejectedError("leases are read-only")

        replace = world.api.replace

        async def guarded(kind: Kind, *rest: Any) -> Manifest:
            return await (refuse if kind is LEASES else replace)(kind, *rest)

        world.api.replace = guarded  # type: ignore[method-assign]
        trainer_of(world).hung = True
        world.advance(HANG_SECONDS + 45)
        assert world.status().attempts[0].cause is Cause.HUNG


@leaping
async def test_an_answer_is_looked_at_as_soon_as_it_arrives() -> None:
    queue, seen = WorkQueue(), list[Key]()

    async def worker(key: Key) -> None:
        seen.append(key)

    memory = Memory()
    handlers = Handlers(queue, memory, Pulse(memory.silences))
    handlers.lead()
    working = asyncio.create_task(queue.work(worker))
    for told in (beat(10), beat(10), answer(), answer()):
        meta = {
            "namespace": "ns",
            "labels": {LABEL_JOB: "job", LABEL_JOB_UID: "uid"},
            "annotations": {ANNOTATION_HEARTBEAT: told.model_dump_json(by_alias=True)},
        }
        handlers.lease(None, {"metadata": meta})
        await asyncio.sleep(0.01)
    working.cancel()
    assert seen == [Key("ns", "job")] * 2


class TestTheHealthyAreNotKilled:
    """Slow steps, each within the timeout, and something else that goes wrong."""

    def test_when_the_operator_restarts(self, world: World) -> None:
        world.advance(HANG_SECONDS - 10)
        world.start_operator()
        world.advance(HANG_SECONDS - 10)
        assert (attempt(world), world.asked) == (1, set())

    def test_when_the_operator_was_stopped_for_an_hour(self, world: World) -> None:
        world.time += 3600  # Nothing is heard in this time, and then it just goes on.
        world.turn()
        world.train(trainer_of(world), 1)
        world.advance(HANG_SECONDS - 10)
        assert (attempt(world), world.asked) == (1, set())

    def test_when_the_api_server_was_away(self, world: World) -> None:
        world.advance(HANG_SECONDS - 10)
        reachable = set(world.live_nodes)
        world.live_nodes.clear()  # No beat gets through either.
        world.api.fail_next = 10_000
        world.advance(HANG_SECONDS)
        world.train(trainer_of(world), 1)
        world.advance(HANG_SECONDS)
        world.api.fail_next = 0
        world.live_nodes |= reachable
        world.advance(HANG_SECONDS - 10)
        assert (attempt(world), world.asked) == (1, set())

    @pytest.mark.parametrize("skew", [-86_400.0, 86_400.0])
    def test_when_the_clocks_of_the_nodes_differ(self, world: World, skew: float) -> None:
        for slow_step in range(5):
            world.clock_skew[trainer_of(world).node] = skew * slow_step
            world.advance(HANG_SECONDS - 10)
            world.train(trainer_of(world), 1)
        assert (attempt(world), world.asked) == (1, set())

    def test_when_what_is_read_is_out_of_date(self, world: World) -> None:
        """Every second read of the Lease is half a timeout old."""
        get, history, reads = world.api.get, list[tuple[float, Manifest]](), [0]

        async def lagging(kind: Kind, namespace: str, name: str) -> Manifest:
            found = await get(kind, namespace, name)
            if kind is not LEASES or namespace != NAMESPACE or name != JOB:
                return found
            history.append((world.time, copy.deepcopy(found)))
            reads[0] += 1
            old = [lease for time, lease in history if time <= world.time - HANG_SECONDS / 2]
            return old[-1] if old and reads[0] % 2 else found

        world.api.get = lagging  # type: ignore[method-assign]
        for _ in range(10):
            world.advance(HANG_SECONDS - 10)
            world.train(trainer_of(world), 1)
        assert (attempt(world), world.asked) == (1, set())

    def test_when_the_answer_of_the_api_server_takes_long(self, world: World) -> None:
        """What is read is from before the step, and arrives when the timeout is over."""
        world.advance(HANG_SECONDS - 4)
        get = world.api.get

        async def slow(kind: Kind, namespace: str, name: str) -> Manifest:
            found = await get(kind, namespace, name)
            if kind is LEASES and name == JOB:
                world.time += 5
            return found

        world.api.get = slow  # type: ignore[method-assign]
        world.turn()
        world.api.get = get  # type: ignore[method-assign]
        world.train(trainer_of(world), 1)
        world.advance(HANG_SECONDS - 10)
        assert (attempt(world), world.asked) == (1, set())
