"""The one Lease of the API server that a trainer knows, over real HTTP."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rtj_api.heartbeat import Heartbeat
from rtj_api.names import ANNOTATION_HEARTBEAT
from rtj_trainer.lease import ApiError

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
        self.refused = 0
        """Requests that got no other answer than `status`."""
        self.changed = threading.Condition()
        self.connections: list[socket.socket] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections.append(self.request)
                super().setup()

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

    def hang_up(self) -> None:
        """Close every connection, as an API server does that is started again."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def answer(self, request: BaseHTTPRequestHandler, act: Callable[[Any], Any]) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length)) if length else None
        with self.changed:
            status, answer = 200, None
            if request.headers["Authorization"] != f"Bearer {self.token}":
                status = 401
            elif self.status or request.path != PATH:
                status = self.status or 404
                self.refused += 1
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

    def annotate(self, name: str, value: str) -> None:
        with self.changed:
            self.lease["metadata"].setdefault("annotations", {})[name] = value
            self.store(self.lease)

    @property
    def beat(self) -> Heartbeat | None:
        text = self.lease["metadata"].get("annotations", {}).get(ANNOTATION_HEARTBEAT)
        return Heartbeat.model_validate_json(text) if text else None

    def wait_for(self, holds: Callable[[], object], seconds: float = 60) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, timeout=seconds)
