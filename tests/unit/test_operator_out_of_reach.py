"""An error of the API server about one job makes the operator deaf to no other job."""

import pytest
from aiohttp import web
from kubernetes.aio import client
from rtj_operator.cluster import Key, UnavailableError
from rtj_operator.core.observed import Settings
from rtj_operator.kube import KubeCluster
from rtj_operator.memory import Memory
from rtj_operator.reconcile import Reconciler

pytestmark = pytest.mark.unit

HEARD_BEFORE_SECONDS = 100.0


async def silence_after(answer: web.Response | None) -> float:
    """Return for how long all is known to be silent after a look that was answered so.

    Args:
        answer: None means that the connection breaks off.
    """

    async def serve(request: web.Request) -> web.StreamResponse:
        if answer is None:
            assert request.transport
            request.transport.close()
            return web.Response()
        return web.Response(status=answer.status, body=answer.body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    now = 0.0
    memory = Memory(clock=lambda: now)
    now = HEARD_BEFORE_SECONDS
    host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with KubeCluster(client.ApiClient(client.Configuration(host=host))) as cluster:
        with pytest.raises(UnavailableError):
            await Reconciler(cluster, memory, Settings(), tell)(Key("ns", "job"))
    await runner.cleanup()
    return memory.silences.uninterrupted()


async def tell(*_: object) -> None:
    raise AssertionError("there is nothing to say")


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_an_error_of_the_api_server_is_a_sign_of_its_life(code: int) -> None:
    status = web.json_response({"kind": "Status", "code": code, "message": "no"}, status=code)
    assert await silence_after(status) == HEARD_BEFORE_SECONDS


@pytest.mark.parametrize(
    "answer", [None, web.Response(status=502, text="<html>Bad Gateway</html>")]
)
async def test_without_its_answer_all_silence_counts_anew(answer: web.Response | None) -> None:
    assert await silence_after(answer) == 0.0
