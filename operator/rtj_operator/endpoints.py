"""One small HTTP server for the kubelet's probes and for Prometheus.

It shares the event loop with all the work, so a loop that is blocked does not answer either, and
the probe's timeout tells.
"""

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from rtj_operator.health import Vitals, ailments, obstacles
from rtj_operator.metrics import REGISTRY


@contextlib.asynccontextmanager
async def serving(port: int, vitals: Callable[[], Vitals]) -> AsyncIterator[None]:
    """Answer /healthz, /readyz and /metrics on all addresses.

    Raises:
        OSError: the port is taken.
    """

    async def healthz(_: web.Request) -> web.Response:
        return _answer(ailments(vitals()))

    async def readyz(_: web.Request) -> web.Response:
        return _answer(obstacles(vitals()))

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", make_aiohttp_handler(REGISTRY))
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
        yield
    finally:
        await runner.cleanup()


def _answer(problems: list[str]) -> web.Response:
    return web.Response(text="\n".join(problems or ["ok"]) + "\n", status=503 if problems else 200)
