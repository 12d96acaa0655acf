"""A watch of what changes all the time: the fewest steps from the stream to a handler.

A thousand trainers beat 200 times per second, and nearly every beat says only that they live; a
pod that is replaced changes seven times. kopf gives each object a task, a queue and a context of
its own, which costs more than all the rest of an event. So only jobs are left to it.

The order is that of every client: list, then watch from the list's version on. A stream that ends
or breaks off is taken up where it was; once the API server has forgotten that version, all is
listed anew, and what was told of before but is not in the list has gone meanwhile: that is told as
a deletion, as an informer does, or nobody would ever hear of it.
"""

import asyncio
import logging
from collections.abc import Callable

from rtj_operator.cluster import ExpiredError, Kind, Manifest, UnavailableError
from rtj_operator.kube import KubeCluster

log = logging.getLogger(__name__)

AGAIN_SECONDS = 0.1
AGAIN_AFTER_FAILURE_SECONDS = 1.0

_KEPT = ("namespace", "name", "uid", "labels", "ownerReferences")

Handler = Callable[[str | None, Manifest], None]
"""Takes an event: its type, None for what a list shows, and the object.

Of one that had gone before it could be listed again, there is only the metadata that names it.
"""


class Watch:
    """Tells a handler of all objects of a kind.

    Args:
        cluster: Where they are.
        kind: Theirs.
        namespace: Theirs; "" means all.
        handler: Called with each event, one after the other.
        selector: Of their labels.
        listed: Called after each list: what came and went since the last event was never told.
    """

    def __init__(
        self,
        cluster: KubeCluster,
        kind: Kind,
        namespace: str,
        handler: Handler,
        selector: str = "",
        listed: Callable[[], None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._kind = kind
        self._namespace = namespace
        self._handler = handler
        self._selector = selector
        self._listed = listed
        self._version: str | None = None
        """Up to which everything was told; None before a list."""
        self._there: dict[str, Manifest] = {}
        """By uid, what of each object's metadata a handler may need once it is gone."""

    async def run(self) -> None:
        """Watch for ever.

        Raises:
            NotFoundError: the kind or the namespace is not there.
            RejectedError: we must not watch it.
        """
        while True:
            pause = AGAIN_SECONDS
            try:
                if self._version is None:
                    self._version = await self._list()
                await self._stream()
            except ExpiredError:
                self._version = None
            except UnavailableError as error:
                log.warning("watch", extra={"kind": self._kind.plural, "error": str(error)})
                pause = max(AGAIN_AFTER_FAILURE_SECONDS, error.retry_after)
            await asyncio.sleep(pause)

    async def _list(self) -> str:
        version, listed = "", set()
        async for page in self._cluster.pages(self._kind, self._namespace, self._selector):
            for item in page.get("items") or []:
                listed.add(item["metadata"]["uid"])
                self._tell(None, item)
            version = page["metadata"]["resourceVersion"]
        for uid in self._there.keys() - listed:
            self._tell("DELETED", {"metadata": self._there[uid]})
        self._listed()
        return version

    async def _stream(self) -> None:
        since = self._version or ""
        what = (self._kind, self._namespace, since, self._selector)
        async for type_, body in self._cluster.stream(*what):
            self._version = body["metadata"]["resourceVersion"]
            if type_ != "BOOKMARK":
                self._tell(type_, body)

    def _tell(self, type_: str | None, body: Manifest) -> None:
        meta = body["metadata"]
        if type_ == "DELETED":
            self._there.pop(meta["uid"], None)
        else:
            self._there[meta["uid"]] = {name: meta.get(name) for name in _KEPT}
        try:
            self._handler(type_, body)
        except Exception:
            # An object that makes no sense must not make us deaf to all others.
            log.exception("an event was not understood", extra={"kind": self._kind.plural})
