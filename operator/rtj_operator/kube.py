"""The adapter of the port to a real API server, over the official client's HTTP layer."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import client, config
from pydantic_core import from_json
from rtj_api.names import FIELD_MANAGER

from rtj_operator.cluster import (
    PAGE_SIZE,
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ExpiredError,
    Kind,
    Manifest,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from rtj_operator.health import Pulse
from rtj_operator.metrics import REQUESTS

TIMEOUT_SECONDS = 15
LONGEST_WATCH_SILENCE_SECONDS = 70
"""The API server sends a bookmark every minute; kopf has the same limit."""
WATCH_TIMEOUT = aiohttp.ClientTimeout(
    total=None, sock_connect=5, sock_read=LONGEST_WATCH_SILENCE_SECONDS
)
BROKEN_OFF = (TimeoutError, aiohttp.ClientError, OSError, asyncio.IncompleteReadError)
METHODS = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "delete": "DELETE"}
REFUSALS = (400, 401, 403, 405, 413, 415, 422)
LONGEST_RETRY_AFTER_SECONDS = 120
"""The API server says 1 to 30; whatever stands between us and it may say anything."""

Query = list[tuple[str, str | int]]


class KubeCluster:
    """Speaks to the API server that the pod runs in, or that KUBECONFIG names."""

    def __init__(self, api: client.ApiClient, pulse: Pulse | None = None) -> None:
        self._api = api
        self._pulse = pulse

    @classmethod
    async def connect(cls, pulse: Pulse | None = None) -> Self:
        """Load the credentials of the environment; they are refreshed as they expire.

        Raises:
            ClusterError: there are none.
        """
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            path = os.environ.get("KUBECONFIG")
            try:
                await config.load_kube_config(path, client_configuration=configuration)
            except config.ConfigException as error:
                raise ClusterError(
                    f"No service account of a pod, and no cluster in KUBECONFIG: {error}"
                ) from error
        # Workers and watched namespaces bound the connections; none must wait for another's.
        configuration.connection_pool_maxsize = 0
        _look_at_environment_once(configuration)
        return cls(client.ApiClient(configuration), pulse)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._api.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """See `Cluster.get`."""
        return await self._call("get", kind, _path(kind, namespace, name))

    async def list(
        self, kind: Kind, namespace: str, selector: str = "", fields: str = ""
    ) -> list[Manifest]:
        """See `Cluster.list`."""
        return [item async for item in self.each(kind, namespace, selector, fields)]

    async def each(
        self, kind: Kind, namespace: str, selector: str = "", fields: str = ""
    ) -> AsyncIterator[Manifest]:
        """See `Cluster.each`."""
        async for page in self.pages(kind, namespace, selector, fields):
            for item in page.get("items") or []:
                yield item

    async def pages(
        self, kind: Kind, namespace: str, selector: str = "", fields: str = ""
    ) -> AsyncIterator[Manifest]:
        """Read all objects as lists of a page each, all of the same version."""
        token = ""
        while True:
            query: Query = [("limit", PAGE_SIZE)]
            query += [("labelSelector", selector)] if selector else []
            query += [("fieldSelector", fields)] if fields else []
            query += [("continue", token)] if token else []
            page = await self._call("list", kind, _path(kind, namespace), query)
            yield page
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def stream(
        self, kind: Kind, namespace: str, version: str, selector: str = ""
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield type and object of each event after this version, until the stream ends.

        Bookmarks are among them.

        Raises:
            ExpiredError: the version is too old.
            UnavailableError: the stream broke off.
            RejectedError: we must not watch this.
        """
        query: Query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
        ]
        query += [("labelSelector", selector)] if selector else []
        path = _path(kind, namespace)
        try:
            response = await self._send("GET", path, query, limit=WATCH_TIMEOUT)
            async with response.response:
                if response.status >= 300:
                    raise _error_of(response, _decode(await response.read()), f"watch of {path}")
                async for line in response.response.content:
                    event = from_json(line)
                    if event["type"] == "ERROR":
                        told = event["object"]
                        raise _error(told.get("code") or 500, told, f"watch of {path}")
                    yield event["type"], event["object"]
        except (*BROKEN_OFF, ValueError) as error:  # A line may break off, too.
            raise UnavailableError(f"watch of {path}: {error!r}") from error

    async def create(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        """See `Cluster.create`."""
        path = _path(kind, namespace)
        # A pod template is the user's: a typo in it must be refused, not dropped.
        query: Query = [("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict")]
        since = time.monotonic()
        answer = await self._call("create", kind, path, query, manifest)
        self._changed(kind, namespace, since)
        return answer

    async def replace(
        self, kind: Kind, namespace: str, manifest: Manifest, subresource: str = ""
    ) -> Manifest:
        """See `Cluster.replace`."""
        path = _path(kind, namespace, manifest["metadata"]["name"], subresource)
        query: Query = [("fieldManager", FIELD_MANAGER)]
        since = time.monotonic()
        answer = await self._call("update", kind, path, query, manifest, subresource)
        old, new = (m.get("metadata", {}).get("resourceVersion") for m in (manifest, answer))
        if new != old:  # A write that changes nothing makes no event.
            self._changed(kind, namespace, since)
        return answer

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """See `Cluster.delete`."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        await self._call("delete", kind, _path(kind, namespace, name), [], options)

    def _changed(self, kind: Kind, namespace: str, since: float) -> None:
        if self._pulse:
            self._pulse.changed(kind, namespace, since)

    async def _call(
        self,
        verb: str,
        kind: Kind,
        path: str,
        query: Query | None = None,
        body: Manifest | None = None,
        subresource: str = "",
    ) -> Manifest:
        method = METHODS[verb]
        resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
        code = "none"
        try:
            response = await self._send(method, path, query, body)
            text = await response.read()
            code = str(response.status)
        except BROKEN_OFF as error:
            raise UnavailableError(f"{method} {path}: {error!r}") from error
        finally:
            REQUESTS.labels(verb, resource, code).inc()
        answer = _decode(text)
        if response.status < 300:
            return answer
        raise _error_of(response, answer, f"{method} {path}")

    async def _send(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Manifest | None = None,
        limit: aiohttp.ClientTimeout | int = TIMEOUT_SECONDS,
    ) -> Any:
        """Return the client's response as soon as its head is there."""
        request = await self._api.param_serialize(
            method,
            path,
            query_params=query or [],
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            auth_settings=["BearerToken"],
        )
        # Our bodies are plain JSON. The client would copy them item by item to make sure.
        method, url, headers, _, form = request
        return await self._api.call_api(method, url, headers, body, form, _request_timeout=limit)


def _look_at_environment_once(configuration: client.Configuration) -> None:
    """Take a proxy from the environment now; the client would ask two threads at each request."""
    server = urlsplit(configuration.host)
    if not configuration.proxy and not proxy_bypass(server.hostname or ""):
        configuration.proxy = getproxies().get(server.scheme)
    configuration.client_session_kwargs = {"trust_env": False}


def _path(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    root = "/apis" if "/" in kind.api_version else "/api"
    scope = f"/namespaces/{namespace}" if namespace and kind.namespaced else ""
    tail = "".join(f"/{part}" for part in (name, subresource) if part)
    return f"{root}/{kind.api_version}{scope}/{kind.plural}{tail}"


def _decode(text: bytes) -> dict[str, Any]:
    """Return the JSON object; something between us and the API server may answer with HTML."""
    try:
        answer = from_json(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _seconds(retry_after: str | None) -> int:
    """Read the header; the form with a date is never the API server's."""
    if retry_after is None or not retry_after.isdecimal():
        return 0
    return min(int(retry_after), LONGEST_RETRY_AFTER_SECONDS)


def _error_of(response: Any, answer: Manifest, request: str) -> ClusterError:
    retry_after = _seconds(response.getheader("Retry-After"))
    return _error(response.status, answer, request, retry_after)


def _error(status: int, answer: Manifest, request: str, retry_after: float = 0.0) -> ClusterError:
    message = str(answer.get("message") or f"{request}: HTTP {status}")
    if status == 404:
        return NotFoundError(message)
    if status == 409:
        taken = answer.get("reason") == "AlreadyExists"
        return AlreadyExistsError(message) if taken else ConflictError(message)
    if status == 410:
        return ExpiredError(message)
    if status in REFUSALS:
        return RejectedError(message)
    # A proxy before an API server that is away answers too, but not with a Status.
    return UnavailableError(message, retry_after, answered=answer.get("kind") == "Status")
