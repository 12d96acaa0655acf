"""A proxy between the operator and the API server, which tests make answer as no server should."""

import ssl
from pathlib import Path
from typing import Self

import aiohttp
import yaml
from aiohttp import web
from kubernetes.aio import client

HOP_HEADERS = {"connection", "content-length", "host", "transfer-encoding", "content-encoding"}


class HungUpError(Exception):
    """Raised by a subclass: the connection breaks off here, after these last bytes."""

    def __init__(self, last: bytes = b"") -> None:
        super().__init__()
        self.last = last


class ApiProxy:
    """Forwards everything, with an administrator's rights; subclasses break what they want to."""

    def __init__(self, upstream: client.Configuration) -> None:
        self._upstream = upstream

    async def asked(self, request: web.Request) -> web.Response | None:
        """Called before a request is passed on; an answer is given instead of doing so."""
        return None

    async def answered(self, request: web.Request, status: int) -> web.Response | None:
        """Called when the API server has answered; another answer may be given in its place."""
        return None

    async def relayed(self, request: web.Request, chunk: bytes) -> bytes:
        """Called with each piece of an answer's body; returns what is passed on of it."""
        return chunk

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context(cafile=self._upstream.ssl_ca_cert)
        tls.load_cert_chain(self._upstream.cert_file, self._upstream.key_file)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=0))
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._runner.cleanup()

    def write_kubeconfig(self, path: Path) -> None:
        """Write a kubeconfig that leads here."""
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
                    ],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "c",
                }
            )
        )

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self.asked(request) or await self._forward(request)
        except HungUpError:
            assert request.transport
            request.transport.abort()
            return web.Response()
        except ConnectionResetError:  # The client has left.
            return web.Response()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_HEADERS}
        async with self._session.request(
            request.method,
            self._upstream.host + request.path_qs,
            headers=headers,
            # With an empty body, aiohttp would name a content type that discovery refuses.
            data=await request.read() or None,
        ) as answer:
            return await self.answered(request, answer.status) or await self._relay(request, answer)

    async def _relay(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_HEADERS}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            try:
                passed = await self.relayed(request, chunk)
            except HungUpError as end:
                await response.write(end.last)
                raise
            if passed:
                await response.write(passed)
        await response.write_eof()
        return response


def watches(request: web.Request) -> bool:
    """Whether this request opens a watch."""
    return "watch=true" in request.path_qs
