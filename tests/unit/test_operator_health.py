"""What makes the operator unhealthy, and what must not."""

import asyncio
from typing import Any

import pytest
from rtj_operator import leader
from rtj_operator.cluster import JOBS, LEASES, NODE_LEASES, NODES, PODS, Key, UnavailableError
from rtj_operator.health import (
    LONGEST_ROUND_SECONDS,
    LONGEST_TURN_SECONDS,
    LONGEST_WATCH_SILENCE_SECONDS,
    Pulse,
    Vitals,
    ailments,
    obstacles,
)
from rtj_operator.queue import WorkQueue
from rtj_operator.silence import Silences

from tests.model.memory_cluster import MemoryCluster
from tests.unit.leaping_time import leaping

pytestmark = pytest.mark.unit

LONG = LONGEST_WATCH_SILENCE_SECONDS + 10


class Process:
    """A process of the operator whose clock a test turns; leader election comes round."""

    def __init__(self, *namespaces: str) -> None:
        self.now = 100.0
        silences = Silences(lambda: self.now)
        self.pulse = Pulse(silences, namespaces, lambda: self.now)

    def live(self, seconds: float, *, reached: bool = True) -> None:
        """Let time pass while the leader's Lease is asked for every two seconds."""
        end = self.now + seconds
        while self.now < end:
            self.now += 2
            self.pulse.came_round()
            if reached:
                self.pulse.silences.contact()
            else:
                self.pulse.silences.interrupted()

    def ailments(self) -> list[str]:
        return ailments(self.pulse.vitals(0.0, watching=True))

    def obstacles(self) -> list[str]:
        return obstacles(self.pulse.vitals(0.0, watching=True))


def test_a_process_at_rest_is_healthy_and_ready() -> None:
    process = Process()
    process.live(3600)
    assert process.obstacles() == []


def test_a_worker_is_stuck_when_one_turn_takes_longer_than_all_its_requests_may() -> None:
    assert ailments(Vitals(turn=LONGEST_TURN_SECONDS)) == []
    assert ailments(Vitals(turn=LONGEST_TURN_SECONDS + 1)) == [
        "a worker has been busy with one job for 121 s"
    ]


@leaping
async def test_the_queue_knows_its_longest_turn_and_its_depth() -> None:
    queue, gate = WorkQueue(), asyncio.Event()

    async def worker(_: Key) -> None:
        await gate.wait()

    queue.add(Key("ns", "a"))
    queue.add(Key("ns", "b"))
    assert (queue.longest_turn(), queue.depth()) == (0.0, 2)
    task = asyncio.create_task(queue.work(worker))
    await asyncio.sleep(5)
    assert queue.longest_turn() == 5
    assert queue.depth() == 1
    gate.set()
    await asyncio.sleep(0.01)
    assert (queue.longest_turn(), queue.depth()) == (0.0, 0)
    task.cancel()


def test_leader_election_that_stops_is_an_ailment_even_in_a_process_that_waits() -> None:
    process = Process()
    process.live(60)
    process.now += LONGEST_ROUND_SECONDS + 1
    assert process.ailments() == ["leader election stopped 31 s ago"]


async def test_leader_election_that_waits_as_it_was_told_is_alive() -> None:
    """A balancer asks for a pause of a minute, which is longer than leader election ever takes."""

    class Balancer(MemoryCluster):
        async def get(self, *_: Any) -> Any:
            raise UnavailableError("no backend", retry_after=60)

    process = Process()
    waiting = asyncio.create_task(leader.Leader(Balancer(), "ns", "me", process.pulse).acquire())
    await asyncio.sleep(0)
    process.now += 60 + LONGEST_ROUND_SECONDS
    assert process.ailments() == []
    process.now += 1
    assert process.ailments() == ["leader election stopped 31 s ago"]
    waiting.cancel()


def test_before_leader_election_has_begun_nothing_is_wrong_with_it() -> None:
    process = Process()
    process.now += 3600
    assert process.ailments() == []


def test_a_watch_that_does_not_tell_what_we_wrote_is_dead() -> None:
    process = Process()
    process.pulse.changed(JOBS, "ns", process.now)
    process.live(LONGEST_WATCH_SILENCE_SECONDS)
    assert process.ailments() == []
    process.live(2)
    (ailment,) = process.ailments()
    assert "resumabletrainingjobs" in ailment


def test_later_changes_do_not_give_a_dead_watch_more_time() -> None:
    process = Process()
    for _ in range(10):
        process.pulse.changed(LEASES, "ns", process.now)
        process.live(LONG / 10)
    assert process.ailments()


def test_a_watch_that_tells_owes_nothing_though_it_told_before_the_write_was_answered() -> None:
    process = Process()
    sent = process.now
    process.live(2)
    process.pulse.heard(PODS, "ns")
    process.live(2)
    process.pulse.changed(PODS, "ns", sent)
    process.live(LONG)
    assert process.ailments() == []


def test_one_watch_does_not_speak_for_another() -> None:
    process = Process()
    process.pulse.changed(PODS, "ns", process.now)
    process.live(LONG)
    process.pulse.heard(JOBS, "ns")
    assert process.ailments()
    process.pulse.heard(PODS, "another")
    assert process.ailments() == []


def test_in_named_namespaces_each_has_a_watch_of_its_own() -> None:
    process = Process("a", "b")
    process.pulse.changed(JOBS, "a", process.now)
    process.live(LONG)
    process.pulse.heard(JOBS, "b")
    (ailment,) = process.ailments()
    assert "resumabletrainingjobs in a" in ailment


@leaping
async def test_a_process_that_waits_measures_its_watch_by_the_renewals_of_the_leader() -> None:
    process, cluster = Process(), MemoryCluster()
    lease = {
        "metadata": {"name": leader.LEASE_NAME},
        "spec": {"holderIdentity": "another", "leaseDurationSeconds": 3600},
    }
    held = cluster.put(LEASES.kind, "ns", lease)
    waiting = asyncio.create_task(leader.Leader(cluster, "ns", "me", process.pulse).acquire())
    await asyncio.sleep(2 * leader.RENEW_SECONDS)
    process.live(LONG)
    await asyncio.sleep(2 * leader.RENEW_SECONDS)
    assert process.ailments() == []
    await cluster.replace(LEASES, "ns", held)
    await asyncio.sleep(2 * leader.RENEW_SECONDS)
    process.live(LONG)
    assert process.ailments() == ["the watch of leases has not told of a change for 100 s"]
    waiting.cancel()


def test_what_is_not_watched_is_not_waited_for() -> None:
    process = Process("a")
    process.pulse.changed(LEASES, "the-operators-own", process.now)
    process.pulse.changed(NODES, "", process.now)
    process.live(LONG)
    assert process.ailments() == []
    process.pulse.changed(LEASES, NODE_LEASES, process.now)
    process.live(LONG)
    assert process.ailments()


def test_while_the_api_server_is_away_the_process_is_healthy_but_not_ready() -> None:
    process = Process()
    process.pulse.changed(JOBS, "ns", process.now)
    process.live(3600, reached=False)
    assert process.ailments() == []
    assert process.obstacles() == ["the API server has not answered for 3600 s"]


def test_when_the_api_server_is_back_a_watch_has_the_full_time_to_recover() -> None:
    process = Process()
    process.pulse.changed(JOBS, "ns", process.now)
    process.live(3600, reached=False)
    process.live(LONGEST_WATCH_SILENCE_SECONDS)
    assert process.obstacles() == []
    process.live(LONG)
    assert process.ailments()


def test_in_a_whole_cluster_a_watch_must_have_told_of_something() -> None:
    process = Process()
    assert not process.pulse.listening()
    process.pulse.heard(LEASES, "ns")
    assert process.pulse.listening()
    assert Process("a").pulse.listening()


def test_a_process_is_not_ready_before_it_watches() -> None:
    assert obstacles(Vitals(watching=False, unreached=60)) == ["the watches have not begun"]
    assert obstacles(Vitals(turn=1000))
