"""Ways in which an API server, or what stands before it, fails its clients; one proxy for each."""

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kubernetes.aio import client

from tests.integration.api_proxy import ApiProxy, HungUpError, watches

RETRY_AFTER_SECONDS = 1
LONGEST_ROW = 3


@dataclass
class Record:
    """What the operator did, as the API server saw it."""

    created_pods: list[str] = field(default_factory=list)
    deleted_pods: list[str] = field(default_factory=list)
    attempts: dict[str, list[int]] = field(default_factory=dict)
    """By job, the number of the attempt in each status that was written."""
    impatient: list[str] = field(default_factory=list)
    """What was asked again before the time that the API server had named."""


class FaultyProxy(ApiProxy):
    """Writes down what takes effect, and counts the faults."""

    seed = 7
    share = 0.0
    """Of all requests, those that meet the fault."""

    def __init__(self, upstream: client.Configuration, record: Record) -> None:
        super().__init__(upstream)
        self.record = record
        self.faults = 0
        self._chance = random.Random(self.seed)  # noqa: S311 - no secret
        self._in_a_row = 0

    def strikes(self, share: float | None = None) -> bool:
        """Whether the fault happens now; it spares every fourth at least, or it were an outage."""
        struck = self._chance.random() < (self.share if share is None else share)
        self._in_a_row = self._in_a_row + 1 if struck else 0
        if self._in_a_row > LONGEST_ROW:
            self._in_a_row, struck = 0, False
        self.faults += struck
        return struck

    async def answered(self, request: web.Request, status: int) -> web.Response | None:
        """Write down what took effect."""
        if status < 300:
            await self._write_down(request)
        return None

    async def _write_down(self, request: web.Request) -> None:
        if request.method == "POST" and request.path.endswith("/pods"):
            self.record.created_pods.append(await name_of(request))
        elif request.method == "DELETE" and "/pods/" in request.path:
            self.record.deleted_pods.append(request.path)
        elif request.method == "PUT" and request.path.endswith("/status"):
            body = await request.json()
            attempt = body["status"].get("attempt")
            if attempt:
                numbers = self.record.attempts.setdefault(body["metadata"]["name"], [])
                numbers.append(attempt["number"])


class Conflicts(FaultyProxy):
    """Somebody else always writes first; and what was created is said to have been there."""

    async def asked(self, request: web.Request) -> web.Response | None:
        """Refuse half of the status writes, and some creations as a quota does."""
        status = request.method == "PUT" and request.path.endswith("/status")
        if (status and self.strikes(0.4)) or (request.method == "POST" and self.strikes(0.1)):
            return refusal(409, "Conflict")
        return None

    async def answered(self, request: web.Request, status: int) -> web.Response | None:
        """Create, and deny it."""
        await super().answered(request, status)
        if request.method == "POST" and self.strikes(0.2):
            return refusal(409, "AlreadyExists")
        return None


class TooManyRequests(FaultyProxy):
    """429, with a time before which nobody is to ask again."""

    share = 0.05

    def __init__(self, upstream: client.Configuration, record: Record) -> None:
        super().__init__(upstream, record)
        self._closed_until: dict[tuple[str, ...], float] = {}

    async def asked(self, request: web.Request) -> web.Response | None:
        """Refuse some requests of each kind, the watches and the leader's included."""
        # kopf and the operator each list the jobs, and neither knows what the other was told.
        asker = request.headers.get("User-Agent", "").partition("/")[0]
        subject = (asker, request.method, request.path_qs, await name_of(request))
        now = asyncio.get_running_loop().time()
        # What all jobs share, another job may ask for.
        shared = "/configmaps/" in request.path or "/persistentvolumeclaims/" in request.path
        if now < self._closed_until.get(subject, 0.0) and not shared:
            self.record.impatient.append(" ".join(subject))
        if not self.strikes():
            return None
        self._closed_until[subject] = now + RETRY_AFTER_SECONDS
        return refusal(429, "TooManyRequests", {"Retry-After": str(RETRY_AFTER_SECONDS)})


class ServerErrors(FaultyProxy):
    """500, 502, 503 and 504, before the request took effect and after."""

    share = 0.03

    async def asked(self, request: web.Request) -> web.Response | None:
        """Fail."""
        return self._error() if self.strikes() else None

    async def answered(self, request: web.Request, status: int) -> web.Response | None:
        """Do it, and fail then."""
        await super().answered(request, status)
        return self._error() if self.strikes() else None

    def _error(self) -> web.Response:
        code = self._chance.choice([500, 502, 503, 504])
        if code == 502:
            return web.Response(status=502, text="<html>Bad Gateway</html>")
        return refusal(code, "InternalError")


class Gone(FaultyProxy):
    """410: no watch may go on from where it was."""

    async def asked(self, request: web.Request) -> web.Response | None:
        """Refuse some watches from the start."""
        return refusal(410, "Expired") if watches(request) and self.strikes(0.1) else None

    async def relayed(self, request: web.Request, chunk: bytes) -> bytes:
        """Put the end of a watch in place of an event."""
        if watches(request) and chunk.startswith(b'{"type":') and self.strikes(0.2):
            return json.dumps({"type": "ERROR", "object": _status(410, "Expired")}).encode() + b"\n"
        return chunk


class Forgetful(FaultyProxy):
    """Breaks off the watch of pods at its next event, and then remembers no version."""

    forgets = False

    async def asked(self, request: web.Request) -> web.Response | None:
        """Let nobody go on from where he was."""
        if not self._forgot(request):
            return None
        self.faults += 1
        return refusal(410, "Expired")

    async def relayed(self, request: web.Request, chunk: bytes) -> bytes:
        """Hang up instead of telling."""
        if self._forgot(request):
            self.faults += 1
            raise HungUpError
        return chunk

    def _forgot(self, request: web.Request) -> bool:
        return self.forgets and watches(request) and request.path.endswith("/pods")


class Dropped(FaultyProxy):
    """Connections break off in the middle of a line."""

    async def relayed(self, request: web.Request, chunk: bytes) -> bytes:
        """Break off after half of what there is to say."""
        if self.strikes(0.3 if watches(request) else 0.05):
            raise HungUpError(chunk[: len(chunk) // 2])
        return chunk


class Silent(FaultyProxy):
    """Keeps every connection open and says nothing, until it does again."""

    def __init__(self, upstream: client.Configuration, record: Record) -> None:
        super().__init__(upstream, record)
        self._speaks = asyncio.Event()
        self._speaks.set()

    async def fall_silent(self, seconds: float) -> None:
        """Hold all back for so long; then everything goes on as if nothing had been."""
        self._speaks.clear()
        await asyncio.sleep(seconds)
        self._speaks.set()

    async def asked(self, request: web.Request) -> web.Response | None:
        """Hold requests back: they take effect later, wanted or not."""
        await self._hold()
        return None

    async def answered(self, request: web.Request, status: int) -> web.Response | None:
        """Hold answers back."""
        await super().answered(request, status)
        await self._hold()
        return None

    async def relayed(self, request: web.Request, chunk: bytes) -> bytes:
        """Hold events back."""
        await self._hold()
        return chunk

    async def _hold(self) -> None:
        self.faults += not self._speaks.is_set()
        await self._speaks.wait()


class Away(FaultyProxy):
    """Nobody answers at all."""

    away = False

    async def asked(self, request: web.Request) -> web.Response | None:
        """Hang up."""
        self._hang_up_if_away()
        return None

    async def relayed(self, request: web.Request, chunk: bytes) -> bytes:
        """Hang up."""
        self._hang_up_if_away()
        return chunk

    def _hang_up_if_away(self) -> None:
        if self.away:
            self.faults += 1
            raise HungUpError


async def name_of(request: web.Request) -> str:
    """Return the name of the object in a request's body."""
    if request.method != "POST":
        return ""
    body: dict[str, Any] = await request.json()
    return str(body["metadata"].get("name", ""))


def refusal(code: int, reason: str, headers: dict[str, str] | None = None) -> web.Response:
    """Answer as the API server does."""
    return web.json_response(_status(code, reason), status=code, headers=headers)


def _status(code: int, reason: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": f"A fault of the test: {reason}",
        "reason": reason,
        "code": code,
    }
