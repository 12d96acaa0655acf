"""The Lease is taken over, renewed and lost as Kubernetes does it; a real server over HTTP."""

import errno
import http.client
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rtj_api.heartbeat import CommitRef, FinalRecord, Heartbeat, StackDump, TrainerPhase
from rtj_api.names import ANNOTATION_DUMP_STACKS, LABEL_JOB_UID, ExitCode, Reason
from rtj_api.time_spent import TrainerSeconds
from rtj_trainer.cutting import SameLength
from rtj_trainer.errors import SupersededError
from rtj_trainer.heartbeat import Heart
from rtj_trainer.lease import ApiError, ApiServer, Lease
from rtj_trainer.progress import Progress

from tests.unit.trainer.lease_server import LeaseServer

pytestmark = pytest.mark.unit


@pytest.fixture
def api(server: LeaseServer, tmp_path: Path) -> ApiServer:
    token = tmp_path / "token"
    token.write_text("secret\n")
    port = server.http.server_address[1]
    return ApiServer(http.client.HTTPConnection("127.0.0.1", port, timeout=60), token_file=token)


@pytest.fixture
def lease(api: ApiServer) -> Lease:
    return Lease(api, "space", "job", job_uid="uid", attempt=2, pod_uid="pod-2")


MakeHeart = Callable[[float], Heart]
"""Returns a heart of the lease with that interval in seconds."""


@pytest.fixture
def heart_with(lease: Lease) -> Iterator[MakeHeart]:
    """None of these beats on after its test: it would disturb others of the same process."""
    made: list[Heart] = []

    def make(interval: float) -> Heart:
        made.append(Heart(Heartbeat(attempt=2, phase=TrainerPhase.STARTING), lease, interval))
        return made[-1]

    yield make
    for heart in made:
        heart.finish(FinalRecord(exit_code=ExitCode.COMPLETED, reason=Reason.COMPLETED, message=""))


def test_the_first_beat_takes_the_lease_over(server: LeaseServer, lease: Lease) -> None:
    server.give_to("pod-1", 1)
    lease.beat('{"attempt": 2, "phase": "Starting"}')
    spec = server.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("pod-2", 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", spec["renewTime"])
    assert server.beat == Heartbeat(attempt=2, phase=TrainerPhase.STARTING)


def test_a_newer_attempt_is_never_pushed_out(server: LeaseServer, lease: Lease) -> None:
    server.give_to("pod-3", 3)
    with pytest.raises(SupersededError, match="attempt 3 holds the Lease"):
        lease.beat("{}")
    assert server.lease["spec"]["holderIdentity"] == "pod-3"


def test_another_pod_with_the_same_attempt_is_never_pushed_out(
    server: LeaseServer, lease: Lease
) -> None:
    server.give_to("pod-2b", 2)
    with pytest.raises(SupersededError, match="pod pod-2b holds the Lease"):
        lease.beat("{}")


def test_a_change_during_the_take_over_is_looked_at_again(
    server: LeaseServer, lease: Lease
) -> None:
    def interfere() -> None:
        server.before_put = None
        server.give_to("pod-3", 3)

    server.before_put = interfere
    with pytest.raises(SupersededError):
        lease.beat("{}")
    assert server.lease["spec"]["holderIdentity"] == "pod-3"


def test_a_holder_that_lost_the_lease_finds_out_at_its_next_beat(
    server: LeaseServer, lease: Lease
) -> None:
    lease.beat("{}")
    server.give_to("pod-3", 3)
    with pytest.raises(SupersededError):
        lease.beat('{"stale": true}')
    assert "stale" not in json.dumps(server.lease)


def test_a_lease_that_was_made_anew_is_taken_over_again(server: LeaseServer, lease: Lease) -> None:
    lease.beat("{}")
    labels = {LABEL_JOB_UID: "uid"}
    metadata = {"name": "job", "resourceVersion": "1", "labels": labels}
    server.lease = {"metadata": metadata, "spec": {}}
    lease.beat("{}")
    assert server.lease["spec"]["holderIdentity"] == "pod-2"


def test_the_lease_of_a_new_job_of_the_same_name_is_never_taken_over(
    server: LeaseServer, lease: Lease
) -> None:
    lease.beat("{}")
    anew = {"name": "job", "resourceVersion": "1", "labels": {LABEL_JOB_UID: "new-uid"}}
    server.lease = {"metadata": anew, "spec": {}}
    with pytest.raises(SupersededError, match=r"another job of this name.* is new-uid"):
        lease.beat('{"stale": true}')
    assert server.lease == {"metadata": anew, "spec": {}}


def test_beats_share_a_connection(server: LeaseServer, lease: Lease) -> None:
    for _ in range(5):
        lease.beat("{}")
    assert len(server.connections) == 1


def test_a_connection_that_was_closed_since_the_last_beat_costs_nothing(
    server: LeaseServer, lease: Lease
) -> None:
    for number in range(3):
        lease.beat(json.dumps({"attempt": 2, "phase": "Training", "warning": None, "n": number}))
        server.hang_up()
    lease.beat('{"attempt": 2, "phase": "Saving"}')
    assert server.beat == Heartbeat(attempt=2, phase=TrainerPhase.SAVING)
    assert len(server.connections) == 4


def test_a_token_that_cannot_be_read_is_an_error_that_may_pass(
    lease: Lease, tmp_path: Path
) -> None:
    lease.beat("{}")
    (tmp_path / "token").rename(tmp_path / "away")
    with pytest.raises(ApiError, match="FileNotFoundError"):
        lease.beat("{}")
    (tmp_path / "away").rename(tmp_path / "token")
    lease.beat("{}")


def test_a_rotated_token_is_read_again(server: LeaseServer, lease: Lease, tmp_path: Path) -> None:
    lease.beat("{}")
    server.token = "rotated"  # noqa: S105 - a test's token
    with pytest.raises(ApiError, match="401"):
        lease.beat("{}")
    (tmp_path / "token").write_text("rotated")
    lease.beat("{}")


def test_a_turn_is_told_at_once(server: LeaseServer, heart_with: MakeHeart) -> None:
    heart = heart_with(3600)
    heart.start()
    server.wait_for(lambda: server.beat)
    heart.report(phase=TrainerPhase.TRAINING)
    server.wait_for(lambda: server.beat and server.beat.phase == TrainerPhase.TRAINING)


def test_the_position_and_the_speed_are_told_at_each_beat(
    server: LeaseServer, heart_with: MakeHeart
) -> None:
    progress = Progress(total_steps=100, lengths=SameLength(10))
    heart = heart_with(0.05)
    heart.follow(progress)
    heart.start()
    for _ in range(25):
        if progress.step_in_epoch in (0, 10):
            progress.begin_epoch()
        progress.count(8)
    server.wait_for(lambda: server.beat and server.beat.position.step == 25)
    server.wait_for(lambda: server.beat and server.beat.steps_per_second is not None)
    position = server.beat.position if server.beat else None
    assert position
    assert (position.epoch, position.samples, position.total_steps) == (2, 200, 100)


def test_every_beat_tells_where_the_time_went_and_what_a_commit_made_safe(
    server: LeaseServer, heart_with: MakeHeart
) -> None:
    def spent() -> TrainerSeconds:
        assert server.beat
        assert server.beat.spent
        return server.beat.spent

    heart = heart_with(0.02)
    heart.start()
    server.wait_for(lambda: server.beat and spent().starting > 0)
    with heart.replaying():
        server.wait_for(lambda: spent().replaying > 0)
    server.wait_for(lambda: spent().training > 0.05)
    assert spent().committed == 0
    heart.report(phase=TrainerPhase.SAVING)
    server.wait_for(lambda: spent().saving > 0)
    heart.taken()
    heart.report(phase=TrainerPhase.TRAINING)
    heart.committed(CommitRef(id="c", step=1, time=datetime.now(UTC)), ["c"])
    server.wait_for(lambda: spent().committed > 0.05)
    heart.finish(FinalRecord(exit_code=ExitCode.PREEMPTED, reason=Reason.EVICTED, message=""))
    assert spent().committed <= spent().training


def test_training_goes_on_without_the_api_server(
    server: LeaseServer, heart_with: MakeHeart
) -> None:
    heart = heart_with(0.05)
    server.status = 503
    heart.start()
    server.wait_for(lambda: server.refused)
    heart.check_superseded()
    with server.changed:
        server.status = None
    server.wait_for(lambda: server.beat)
    heart.check_superseded()
    assert server.lease["spec"]["holderIdentity"] == "pod-2"


def test_an_odd_answer_does_not_end_the_beating(
    server: LeaseServer, heart_with: MakeHeart, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, store = [{"kind": "Lease"}, [], "Lease"], server.store

    def answered(taken: Any) -> Any:
        stored = store(taken)
        return odd.pop() if odd else stored

    monkeypatch.setattr(server, "store", answered)
    heart = heart_with(0.02)
    heart.start()
    server.wait_for(lambda: not odd)
    heart.report(phase=TrainerPhase.TRAINING)
    server.wait_for(lambda: server.beat and server.beat.phase == TrainerPhase.TRAINING)
    heart.check_superseded()


def test_stacks_that_cannot_be_written_are_tried_once_and_do_not_end_the_beating(
    server: LeaseServer, heart_with: MakeHeart
) -> None:
    tries = list[str]()

    def failing(standstill: str) -> str:
        tries.append(standstill)
        raise OSError(errno.EIO, "standard error is gone")

    heart = heart_with(0.02)
    heart.dump_with(failing)
    server.annotate(ANNOTATION_DUMP_STACKS, "000002-Starting-0")
    heart.start()
    server.wait_for(lambda: server.beat and server.beat.stacks)
    version = int(server.lease["metadata"]["resourceVersion"])
    server.wait_for(lambda: int(server.lease["metadata"]["resourceVersion"]) > version + 3)
    assert server.beat
    assert server.beat.stacks == StackDump(standstill="000002-Starting-0", path=None)
    assert tries == ["000002-Starting-0"]


def test_a_superseded_heart_says_so_and_falls_silent(
    server: LeaseServer, heart_with: MakeHeart
) -> None:
    heart = heart_with(0.05)
    heart.start()
    server.wait_for(lambda: server.beat)
    server.give_to("pod-3", 3)
    version = server.lease["metadata"]["resourceVersion"]
    heart._thread.join(60)
    with pytest.raises(SupersededError):
        heart.check_superseded()
    final = FinalRecord(exit_code=ExitCode.SUPERSEDED, reason=Reason.SUPERSEDED, message="")
    heart.finish(final)
    assert server.lease["metadata"]["resourceVersion"] == version


def test_the_last_beat_carries_how_it_ended(server: LeaseServer, heart_with: MakeHeart) -> None:
    heart = heart_with(3600)
    heart.start()
    final = FinalRecord(exit_code=ExitCode.COMPLETED, reason=Reason.COMPLETED, message="done")
    heart.finish(final)
    assert server.beat
    assert (server.beat.phase, server.beat.final) == (TrainerPhase.FINISHED, final)


def test_without_a_lease_nothing_is_sent() -> None:
    heart = Heart(Heartbeat(attempt=1, phase=TrainerPhase.STARTING))
    heart.start()
    heart.report(phase=TrainerPhase.TRAINING)
    heart.check_superseded()
    heart.finish(FinalRecord(exit_code=ExitCode.COMPLETED, reason=Reason.COMPLETED, message=""))
    assert not heart._thread.is_alive()


def test_a_question_is_answered_once_and_only_about_the_present_standstill(
    server: LeaseServer, heart_with: MakeHeart
) -> None:
    progress, dumps = Progress(), list[str]()
    heart = heart_with(0.05)
    heart.follow(progress)
    heart.dump_with(lambda standstill: dumps.append(standstill) or "there")
    server.annotate(ANNOTATION_DUMP_STACKS, "000001-Starting-0")  # To the attempt before.
    heart.start()
    server.wait_for(lambda: server.beat)
    server.annotate(ANNOTATION_DUMP_STACKS, "000002-Starting-0")
    server.wait_for(lambda: server.beat and server.beat.stacks)
    version = int(server.lease["metadata"]["resourceVersion"])
    server.wait_for(lambda: int(server.lease["metadata"]["resourceVersion"]) > version + 3)
    assert dumps == ["000002-Starting-0"]
    assert server.beat
    assert server.beat.stacks == StackDump(standstill="000002-Starting-0", path="there")
    progress.begin_epoch()
    progress.count(8)
    server.wait_for(lambda: server.beat and server.beat.position.step == 1)
    server.wait_for(lambda: int(server.lease["metadata"]["resourceVersion"]) > version + 6)
    assert dumps == ["000002-Starting-0"]
