"""An API server that is busy for a moment is asked again by what waits for something."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from rtj_demo import kube as kube_module
from rtj_demo.kube import CommandFailedError, Kube, NotAnsweredError, wait_for

pytestmark = pytest.mark.unit


def _kube(port: int, folder: Path) -> Kube:
    kubeconfig = folder / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{port}"}
    config = {
        "clusters": [{"name": "fake", "cluster": cluster}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        "current-context": "fake",
        "users": [{"name": "fake", "user": {}}],
    }
    kubeconfig.write_text(json.dumps(config))
    return Kube(["kubectl"], ["helm"], str(kubeconfig), folder)


@contextmanager
def _answering(folder: Path, *statuses: int) -> Iterator[Kube]:
    """Yield a cluster whose API server answers with these, and with the last for ever."""
    left = list(statuses)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = left.pop(0) if left[1:] else left[0]
            body = json.dumps({"says": status}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield _kube(server.server_port, folder)
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_module, "POLL_SECONDS", 0.01)


def test_what_waits_asks_again_where_the_api_server_is_busy_or_fails(tmp_path: Path) -> None:
    with _answering(tmp_path, 429, 500, 503, 200) as kube:
        assert wait_for("it", lambda: kube.get("pods", "any", "default"), 30) == {"says": 200}


@pytest.mark.parametrize("status", [403, 404])
def test_an_answer_that_is_no_is_not_asked_for_again(tmp_path: Path, status: int) -> None:
    with (
        _answering(tmp_path, status, 200) as kube,
        pytest.raises(CommandFailedError, match=str(status)) as told,
    ):
        wait_for("it", lambda: kube.get("pods", "any", "default"), 30)
    assert not isinstance(told.value, NotAnsweredError)


def test_what_waited_in_vain_says_that_there_was_no_answer(tmp_path: Path) -> None:
    with (
        _answering(tmp_path, 503) as kube,
        pytest.raises(TimeoutError, match=r"for its end; get pods/any: .*503"),
    ):
        wait_for("its end", lambda: kube.get("pods", "any", "default"), 0)


def test_an_api_server_that_is_not_there_may_come_back(tmp_path: Path) -> None:
    with socket.socket() as bound:  # Nobody else gets the port, and nobody listens.
        bound.bind(("127.0.0.1", 0))
        kube = _kube(bound.getsockname()[1], tmp_path)
        with pytest.raises(TimeoutError, match=r"for its end; get pods: .*refused"):
            wait_for("its end", lambda: kube.list("pods", "default"), 0)
