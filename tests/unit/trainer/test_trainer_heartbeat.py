"""The Lease is taken over, renewed and lost as Kubernetes does it; a real server over HTTP."""

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rtj_api.heartbeat import FinalRecord, Heartbeat, TrainerPhase
from rtj_api.names import ANNOTATION_HEARTBEAT, ExitCode, Reason
from rtj_trainer.errors import SupersededError
from rtj_trainer.heartbeat import Heart
from rtj_trainer.lease import ApiError, ApiServer, Lease
from rtj_trainer.progress import Progress

pytestmark = pytest.mark.unit

PATH = "/apis/coordination.k8s.io/v1/namespaces/space/leases/job"


class LeaseServer:
    """Just enough of the API server: GET, PUT with resourceVersion, JSON patch with `test`."""

    def __init__(self, token: str) -> None:
        self.lease: dict[str, Any] = {
            "metadata": {"name": "job", "resourceVersion": "1"},
            "spec": {},
        }
        self.token = token
        self.status: int | None = None
        self.before_put: Callable[[], None] | None = None
        self.changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self, lambda _: outer.lease)

            def do_PUT(self) -> None:
                outer.answer(self, outer.put)

            def do_PATCH(self) -> None:
                outer.answer(self, outer.patch)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler, act: Callable[[Any], Any]) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length)) if length else None
        with self.changed:
            status, answer = 200, None
            if request.headers["Authorization"] != f"Bearer {self.token}":
                status = 401
            elif self.status or request.path != PATH:
                status = self.status or 404
            else:
                try:
                    answer = act(body)
                except ApiError as error:
                    status = error.status or 500
            self.changed.notify_all()
        content = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def put(self, body: Any) -> Any:
        if self.before_put:
            self.before_put()
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError("conflict", 409)
        return self.store(body)

    def patch(self, operations: Any) -> Any:
        lease = json.loads(json.dumps(self.lease))
        for operation in operations:
            *outer, key = [
                part.replace("~1", "/") for part in operation["path"].removeprefix("/").split("/")
            ]
            target = lease
            for part in outer:
                target = target[part]
            if operation["op"] == "test" and target.get(key) != operation["value"]:
                raise ApiError("test failed", 422)
            target[key] = operation["value"]
        return self.store(lease)

    def store(self, lease: Any) -> Any:
        lease["metadata"]["resourceVersion"] = str(int(lease["metadata"]["resourceVersion"]) + 1)
        self.lease = lease
        return lease

    def give_to(self, holder: str, transitions: int) -> None:
        with self.changed:
            self.lease["spec"].update(holderIdentity=holder, leaseTransitions=transitions)
            self.store(self.lease)

    @property
    def beat(self) -> Heartbeat | None:
        text = self.lease["metadata"].get("annotations", {}).get(ANNOTATION_HEARTBEAT)
        return Heartbeat.model_validate_json(text) if text else None

    def wait_for(self, holds: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, timeout=10)


@pytest.fixture
def server() -> Iterator[LeaseServer]:
    made = LeaseServer("secret")
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def api(server: LeaseServer, tmp_path: Path) -> ApiServer:
    token = tmp_path / "token"
    token.write_text("secret\n")
    port = server.http.server_address[1]
    return ApiServer(
        lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=5), token_file=token
    )


@pytest.fixture
def lease(api: ApiServer) -> Lease:
    return Lease(api, "space", "job", attempt=2, pod_uid="pod-2")


def heart_with(lease: Lease, interval: float = 30.0) -> Heart:
    return Heart(Heartbeat(attempt=2, phase=TrainerPhase.STARTING), lease, interval)


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
    server.lease = {"metadata": {"name": "job", "resourceVersion": "1"}, "spec": {}}
    lease.beat("{}")
    assert server.lease["spec"]["holderIdentity"] == "pod-2"


def test_a_rotated_token_is_read_again(server: LeaseServer, lease: Lease, api: ApiServer) -> None:
    lease.beat("{}")
    server.token = "rotated"  # noqa: S105 - a test's token
    with pytest.raises(ApiError, match="401"):
        lease.beat("{}")
    api.token_file.write_text("rotated")
    lease.beat("{}")


def test_a_turn_is_told_at_once(server: LeaseServer, lease: Lease) -> None:
    heart = heart_with(lease)
    heart.start()
    server.wait_for(lambda: server.beat)
    heart.report(phase=TrainerPhase.TRAINING)
    server.wait_for(lambda: server.beat and server.beat.phase == TrainerPhase.TRAINING)


def test_the_position_and_the_speed_are_told_at_each_beat(
    server: LeaseServer, lease: Lease
) -> None:
    progress = Progress(total_steps=100, steps_per_epoch=10)
    heart = heart_with(lease, interval=0.05)
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


def test_training_goes_on_without_the_api_server(server: LeaseServer, lease: Lease) -> None:
    heart = heart_with(lease, interval=0.05)
    server.status = 503
    heart.start()
    server.wait_for(lambda: True)
    heart.check_superseded()
    with server.changed:
        server.status = None
    server.wait_for(lambda: server.beat)
    heart.check_superseded()


def test_a_superseded_heart_says_so_and_falls_silent(server: LeaseServer, lease: Lease) -> None:
    heart = heart_with(lease, interval=0.05)
    heart.start()
    server.wait_for(lambda: server.beat)
    server.give_to("pod-3", 3)
    version = server.lease["metadata"]["resourceVersion"]
    heart._thread.join(10)
    with pytest.raises(SupersededError):
        heart.check_superseded()
    final = FinalRecord(exit_code=ExitCode.SUPERSEDED, reason=Reason.SUPERSEDED, message="")
    heart.finish(final)
    assert server.lease["metadata"]["resourceVersion"] == version


def test_the_last_beat_carries_how_it_ended(server: LeaseServer, lease: Lease) -> None:
    heart = heart_with(lease)
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
