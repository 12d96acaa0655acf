"""A proxy between the operator and the API server that kills the operator after its writes."""

import asyncio
import multiprocessing
import os
import signal
import ssl
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

import aiohttp
import yaml
from aiohttp import web
from kubernetes.aio import client

HOP_HEADERS = {"connection", "content-length", "host", "transfer-encoding", "content-encoding"}

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["rtj_operator.__main__"])


def _operate(environment: dict[str, str], log: Path) -> None:
    """Be the operator: the same main() as `python -m rtj_operator`, but imported beforehand."""
    with log.open("a") as output:
        os.dup2(output.fileno(), 2)
    os.environ.update(environment)
    from rtj_operator.__main__ import main

    main()


class Operator:
    """The operator as a process of its own, started again whenever it is dead."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._arguments = (environment, log)
        self._process: BaseProcess | None = None
        self.starts = 0

    async def keep_alive(self) -> None:
        """Do what the kubelet does for a Deployment's pod, without its pauses."""
        while True:
            if self._process is None or not self._process.is_alive():
                self._process = forkserver.Process(target=_operate, args=self._arguments)
                self._process.start()
                self.starts += 1
            await asyncio.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process and self._process.pid and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.join()


class KillingProxy:
    """Forwards everything; after every n-th write took effect, kills and gives no answer."""

    def __init__(
        self, upstream: client.Configuration, kill: Callable[[], None], every: int
    ) -> None:
        self._upstream = upstream
        self._kill = kill
        self._every = every
        self.writes: list[tuple[str, str, int]] = []
        """Method, path and status of every write except leader election's."""
        self.kills = 0

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context(cafile=self._upstream.ssl_ca_cert)
        tls.load_cert_chain(self._upstream.cert_file, self._upstream.key_file)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=0))
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._forward)
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

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_HEADERS}
        async with self._session.request(
            request.method,
            self._upstream.host + request.path_qs,
            headers=headers,
            # With an empty body, aiohttp would name a content type that discovery refuses.
            data=await request.read() or None,
        ) as answer:
            if self._kills_after(request, answer.status):
                return web.Response(status=502)  # Nobody is there to read it.
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_HEADERS}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    def _kills_after(self, request: web.Request, status: int) -> bool:
        if request.method == "GET" or request.path.endswith("/leases/rtj-operator"):
            return False
        self.writes.append((request.method, request.path, status))
        if len(self.writes) % self._every:
            return False
        self.kills += 1
        self._kill()
        return True

    def created_pods(self) -> list[str]:
        """Return the paths of the requests that created a pod."""
        return [
            path
            for method, path, status in self.writes
            if method == "POST" and path.endswith("/pods") and status == 201
        ]
