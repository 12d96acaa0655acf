"""A client of the API server that costs little: the cores belong to what is measured."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp

T = TypeVar("T")
Manifest = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
CONNECTIONS = 100


class ApiError(Exception):
    """The API server said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message[:300]}")
        self.status = status


class Api:
    """An administrator's connection.

    Args:
        server: URL of the API server.
        pki: Folder of the certificates.
        token: Of an account, instead of the administrator's certificate: that would be verified
            anew with every request.
    """

    def __init__(self, server: str, pki: Path, token: str = "") -> None:
        self._server = server
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if not token:
            self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=CONNECTIONS)
        self._session = aiohttp.ClientSession(
            connector=connector, read_bufsize=2**21, headers=self._headers
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def request(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> Any:
        """Return the answer's object.

        Raises:
            ApiError: the API server refused.
            aiohttp.ClientError: it did not answer.
        """
        data = None if body is None else json.dumps(body).encode()
        async with self._session.request(
            method, self._server + path, data=data, headers={"Content-Type": kind}
        ) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise ApiError(answer.status, text.decode(errors="replace"))
            return json.loads(text)

    async def list(self, path: str) -> tuple[list[Manifest], str]:
        """Return all objects, and the resourceVersion to watch from."""
        items: list[Manifest] = []
        token = ""
        while True:
            page = await self.request("GET", f"{path}?limit=500&continue={token}")
            items += page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                return items, page["metadata"]["resourceVersion"]

    async def watch(self, path: str, version: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield type and object of each event, for ever; an ended stream is taken up again.

        Raises:
            ApiError: events were lost.
        """
        timeout = aiohttp.ClientTimeout(total=None)
        while True:
            url = f"{self._server}{path}?watch=1&timeoutSeconds=3600&resourceVersion={version}"
            async with self._session.get(url, timeout=timeout) as answer:
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 0), str(event["object"]))
                    version = event["object"]["metadata"]["resourceVersion"]
                    yield event["type"], event["object"]


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float) -> None:
    """Ask again and again.

    Raises:
        TimeoutError: in vain; the message names what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.2)


async def in_parallel(
    action: Callable[[T], Awaitable[object]], items: Iterable[T], width: int = 24
) -> None:
    """Do this for every item, so many at a time."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await action(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(work())
