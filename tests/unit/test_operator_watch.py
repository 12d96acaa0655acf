"""A watch goes on from where it was, whatever becomes of its streams."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client
from rtj_operator import watch
from rtj_operator.cluster import LEASES, RejectedError
from rtj_operator.kube import KubeCluster
from rtj_operator.watch import Watch

pytestmark = pytest.mark.unit

Answer = Callable[[web.Request], Any]
SELECTOR = "of=ours"
PAGES = {"": (["a"], "more"), "more": (["b"], "")}


def lease(name: str, version: int) -> dict[str, Any]:
    meta = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "labels": {"of": name}}
    return {"metadata": {**meta, "resourceVersion": str(version)}}


def event(kind: str, version: int, name: str = "a") -> bytes:
    return json.dumps({"type": kind, "object": lease(name, version)}).encode() + b"\n"


class Server:
    """An API server with two Leases at version 10, which answers each watch as a test wants."""

    def __init__(self) -> None:
        self.port = 0
        self.gone: set[str] = set()
        """Names of those that are listed no more."""
        self.answers: list[Answer] = []
        self.asked: list[str] = []
        """Of each list its page, of each watch the version from which on."""
        self.wanted = 0
        self.enough = asyncio.Event()

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if len(self.asked) >= self.wanted:
            self.enough.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        assert query["labelSelector"] == SELECTOR
        if "watch" in query:
            self._note(query["resourceVersion"])
            if self.answers:
                return await self.answers.pop(0)(request)
            await asyncio.sleep(60)
        token = query.get("continue", "")
        self._note(f"list {token}".strip())
        names, following = PAGES[token]
        meta = {"resourceVersion": "10", "continue": following}
        items = [lease(name, 1) for name in names if name not in self.gone]
        return web.json_response({"metadata": meta, "items": items})

    def tells(self, *lines: bytes, breaks_off: bool = False) -> None:
        """Answer the next watch with these lines, then end it, well or badly."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"".join(lines))
            if breaks_off:
                assert request.transport
                request.transport.close()
            return response

        self.answers.append(answer)

    def refuses(self, status: int, gone: str = "") -> None:
        """Answer the next watch with an error, at a time when an object has gone."""

        async def answer(_: web.Request) -> web.StreamResponse:
            self.gone.add(gone)
            return web.json_response({"kind": "Status", "message": "no"}, status=status)

        self.answers.append(answer)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(watch, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(watch, "AGAIN_AFTER_FAILURE_SECONDS", 0.0)
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


async def told(
    server: Server,
    asked: int,
    field: str = "resourceVersion",
    listed: Callable[[int], None] = lambda _: None,
) -> list[tuple[str | None, Any]]:
    """Watch until the server was asked so often; return type and a field of what was told."""
    found: list[tuple[str | None, Any]] = []
    host = f"http://127.0.0.1:{server.port}"

    def handler(type_: str | None, body: dict[str, Any]) -> None:
        if body["metadata"]["name"] == "nonsense":
            raise KeyError("spec")
        found.append((type_, body["metadata"].get(field)))

    async with KubeCluster(client.ApiClient(client.Configuration(host=host))) as cluster:
        what = Watch(cluster, LEASES, "", handler, SELECTOR, lambda: listed(len(found)))
        watching = asyncio.create_task(what.run())
        server.wanted, enough = asked, asyncio.create_task(server.enough.wait())
        parts = (watching, enough)
        done, _ = await asyncio.wait(parts, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert done, server.asked
        if watching in done:
            await watching
        watching.cancel()
    return found


LISTED: list[tuple[str | None, str]] = [(None, "1"), (None, "1")]


async def test_it_lists_page_by_page_and_watches_from_there_on(server: Server) -> None:
    server.tells(event("MODIFIED", 11), event("DELETED", 12))
    assert await told(server, 4) == [*LISTED, ("MODIFIED", "11"), ("DELETED", "12")]
    assert server.asked == ["list", "list more", "10", "12"]


async def test_a_bookmark_is_no_event_but_a_place_to_go_on_from(server: Server) -> None:
    server.tells(event("BOOKMARK", 50))
    assert await told(server, 4) == LISTED
    assert server.asked[-1] == "50"


async def test_a_stream_that_breaks_off_in_a_line_is_taken_up_where_it_was(server: Server) -> None:
    server.tells(event("MODIFIED", 11), event("MODIFIED", 12)[:20], breaks_off=True)
    server.tells(event("MODIFIED", 12))
    assert await told(server, 5) == [*LISTED, ("MODIFIED", "11"), ("MODIFIED", "12")]
    assert server.asked == ["list", "list more", "10", "11", "12"]


async def test_a_version_that_is_forgotten_is_answered_by_a_list(server: Server) -> None:
    expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    server.tells(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
    server.refuses(410)
    assert await told(server, 9) == LISTED * 3
    assert server.asked == ["list", "list more", "10"] * 3


async def test_what_went_while_nobody_watched_is_told_after_the_list(server: Server) -> None:
    server.tells(event("ADDED", 11, "c"), event("DELETED", 12, "c"))
    server.refuses(410, gone="b")
    server.refuses(410)
    found = await told(server, 10, "labels")
    both = [(None, {"of": "a"}), (None, {"of": "b"})]
    c = [("ADDED", {"of": "c"}), ("DELETED", {"of": "c"})]
    # Once, and with what its handler needs; one whose end was told is not told of again.
    assert found == [*both, *c, both[0], ("DELETED", {"of": "b"}), both[0]]


async def test_the_end_of_a_list_is_told_after_all_that_it_leads_to(server: Server) -> None:
    server.tells(event("MODIFIED", 11), breaks_off=True)
    server.refuses(410, gone="b")
    after: list[int] = []
    found = await told(server, 7, listed=after.append)
    # Not after a stream that is taken up where it was.
    assert found[3:] == [(None, "1"), ("DELETED", None)]
    assert after == [2, 5]


async def test_errors_of_the_server_are_waited_for(server: Server) -> None:
    server.refuses(503)
    error = {"kind": "Status", "code": 500, "message": "etcdserver: leader changed"}
    server.tells(event("MODIFIED", 11), json.dumps({"type": "ERROR", "object": error}).encode())
    assert await told(server, 5) == [*LISTED, ("MODIFIED", "11")]
    assert server.asked == ["list", "list more", "10", "10", "11"]


async def test_what_makes_no_sense_does_not_hide_the_rest(server: Server) -> None:
    server.tells(event("MODIFIED", 11, "nonsense"), event("MODIFIED", 12))
    assert await told(server, 4) == [*LISTED, ("MODIFIED", "12")]


async def test_a_watch_that_is_forbidden_ends(server: Server) -> None:
    server.refuses(403)
    with pytest.raises(RejectedError):
        await told(server, 4)
