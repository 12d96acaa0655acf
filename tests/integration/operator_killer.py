"""A proxy between the operator and the API server that kills the operator after its writes."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from aiohttp import web
from kubernetes.aio import client

from tests.integration.api_proxy import ApiProxy

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

    def kill(self) -> bool:
        """SIGKILL, and wait until it is gone; return whether it was alive."""
        if not (self._process and self._process.pid and self._process.is_alive()):
            return False
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        return True


class KillingProxy(ApiProxy):
    """After every n-th write took effect, kills and gives no answer."""

    def __init__(
        self, upstream: client.Configuration, kill: Callable[[], bool], every: int
    ) -> None:
        super().__init__(upstream)
        self._kill = kill
        self._every = every
        self.writes: list[tuple[str, str, int]] = []
        """Method, path and status of every write except leader election's."""
        self.kills = 0

    async def answered(self, request: web.Request, status: int) -> web.Response | None:
        """Kill, when it is time; nobody is there then to read the answer."""
        return web.Response(status=502) if self._kills_after(request, status) else None

    def _kills_after(self, request: web.Request, status: int) -> bool:
        if request.method == "GET" or request.path.endswith("/leases/rtj-operator"):
            return False
        self.writes.append((request.method, request.path, status))
        if len(self.writes) % self._every:
            return False
        # Several writes of one process may be under way, and it dies only once.
        self.kills += self._kill()
        return True

    def created_pods(self) -> list[str]:
        """Return the paths of the requests that created a pod."""
        return [
            path
            for method, path, status in self.writes
            if method == "POST" and path.endswith("/pods") and status == 201
        ]
