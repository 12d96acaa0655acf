"""What watched events lead to: each only puts the key of its job on the queue.

Nothing is done because of an event's body, which may be stale; it only tells whether there may be
something to do (`rtj_operator.sightings`). A handler that raised would not be called again, so none
does more than this.

A process that waits to lead watches too, so that it knows how long everything has been silent; but
it asks for no turn, since nobody would take it for days, and what it asked for then would go before
what has just happened.
"""

from collections.abc import Mapping
from typing import Any

import kopf
from rtj_api.names import GROUP, LABEL_JOB, LABEL_JOB_UID, PLURAL, VERSION

from rtj_operator.cluster import JOBS, LEASES, NODE_LEASES, PAGE_SIZE, PODS, Key
from rtj_operator.core.observed import Pod
from rtj_operator.health import Pulse
from rtj_operator.memory import Memory
from rtj_operator.parse import owner_of, parse_heartbeat, parse_pod, parse_stacks_asked
from rtj_operator.passing_over import passed_over
from rtj_operator.queue import WorkQueue

PATIENCE_SECONDS = 30.0
"""How long what is only to be shown may wait while other jobs need a pod."""


class Handlers:
    """Turns watch events into keys."""

    def __init__(self, queue: WorkQueue, memory: Memory, pulse: Pulse) -> None:
        self._queue = queue
        self._memory = memory
        self._sightings = memory.sightings
        self._pulse = pulse
        self._leads = False
        self._generations: dict[str, int] = {}
        self._news: dict[str, object] = {}

    def lead(self) -> None:
        """Ask for turns from now on, at once for jobs that may need a pod.

        All others get theirs by the list of all jobs that a leader begins with.
        """
        self._leads = True
        self._ask_where_a_pod_may_be_needed()

    def pods_listed(self) -> None:
        """Ask for turns of all jobs that may need a pod, once all pods were told anew.

        Nobody tells of a pod that came and went while the watch was broken.
        """
        self._ask_where_a_pod_may_be_needed(PATIENCE_SECONDS)

    def _ask_where_a_pod_may_be_needed(self, patience: float = 0.0) -> None:
        for key in self._sightings.jobs():
            seen = self._sightings.of(key)
            if seen and (not seen.pods or any(_stops(pod) for pod in seen.pods)):
                self._ask(key, patience)

    def _ask(self, key: Key, patience: float = 0.0) -> None:
        if self._leads:
            self._queue.add(key, patience)

    def _let_go(self, key: Key) -> None:
        """Forget a job that is gone or at rest, where no turn will: in one who waits to lead."""
        if not self._leads and self._sightings.of(key) is None:
            self._memory.forget(key)

    def job(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """Take an event of a job; our own status writes are no news."""
        meta = body["metadata"]
        self._pulse.heard(JOBS, meta["namespace"])
        uid, generation = meta["uid"], meta.get("generation", 0)
        key = Key(meta["namespace"], meta["name"])
        if kind == "DELETED":
            self._sightings.forget(key)
            self._generations.pop(uid, None)
            self._let_go(key)
            self._ask(key)
            return
        self._sightings.job(key, body)
        self._let_go(key)
        if self._generations.get(uid) == generation:
            return
        self._generations[uid] = generation
        # Jobs are counted by the leader alone, or a sum over all processes would be too large.
        if self._leads and not passed_over(body, self._memory):
            self._ask(key)

    def pod(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """Take an event of a trainer pod; look at the job only if it says something new.

        Neither a pod that was just made does, which has no node yet, nor one that had ended before
        it changes or goes, unless a job of the same name waits for that. A pod is known by its uid,
        so nothing is missed when its name is used again.
        """
        meta = body["metadata"]
        self._pulse.heard(PODS, meta["namespace"])
        if node := (body.get("spec") or {}).get("nodeName"):
            # Until its first heartbeat its silence counts from here, in one who waits to lead too.
            self._memory.silences.seconds(("scheduled", meta["uid"]), node)
        name = (meta.get("labels") or {}).get(LABEL_JOB)
        if not name:
            return
        key = Key(meta["namespace"], name)
        if kind == "DELETED":
            known = self._sightings.pod_gone(key, meta["uid"])
            if known:
                self._memory.pod_gone(key, owner_of(body), known)
            freed = self._memory.refusals.name_freed(key)
            stale, patience = known is not None and known.ended and not freed, 0.0
        else:
            pod = parse_pod(dict(body))
            known = self._sightings.pod(key, body, pod)
            had_ended = known is not None and known.spent
            stale = had_ended or pod == known or (kind == "ADDED" and _blank(pod))
            patience = 0.0 if _stops(pod) else PATIENCE_SECONDS
        if not stale:
            self._ask(key, patience)

    def lease(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """Take an event of any Lease: a node's, a job's, or somebody else's."""
        meta = body["metadata"]
        self._pulse.heard(LEASES, meta["namespace"])
        renewed = (body.get("spec") or {}).get("renewTime")
        if meta["namespace"] == NODE_LEASES:
            if kind != "DELETED":  # It goes with its Node, which is no sign of life.
                self._memory.silences.seconds(("node", meta["name"]), renewed)
            return
        labels = meta.get("labels") or {}
        name, uid = labels.get(LABEL_JOB), labels.get(LABEL_JOB_UID)
        if not name or not uid:
            return
        key = Key(meta["namespace"], name)
        if kind == "DELETED":
            self._sightings.lease_gone(key, meta["uid"])
            self._news.pop(uid, None)
            if self._memory.refusals.name_freed(key):
                self._ask(key)
            return
        self._sightings.lease(key, body)
        if asked := parse_stacks_asked(body):
            # From here the trainer has its time to answer, whenever the next look may come.
            self._memory.silences.seconds_in_all(("asked", uid), asked)
        self._beat(key, uid, renewed, body)

    def _beat(self, key: Key, uid: str, renewed: object, body: Mapping[str, Any]) -> None:
        """Note that the trainer is alive; look at the job only if it says something new.

        A position or a commit that moves on is no news, nor is a warning, which may come and go
        with each commit: the timer of the last look fetches them.
        """
        beat = parse_heartbeat(body, uid)
        if beat is None:
            return
        self._memory.silences.seconds(("heartbeat", uid), (beat.attempt, renewed))
        news = (beat.attempt, beat.phase, beat.stacks, beat.final)
        if self._news.get(uid) != news:
            self._news[uid] = news
            self._ask(key, PATIENCE_SECONDS)


def _stops(pod: Pod) -> bool:
    """Whether the job may need another pod."""
    return pod.ended or pod.deleting or pod.disruption is not None


def _blank(pod: Pod) -> bool:
    """Whether nothing has happened to the pod since it was created."""
    return pod.node is None and not pod.deleting and not pod.ended and not pod.conditions


def make_registry(handlers: Handlers) -> kopf.OperatorRegistry:
    """Return the kopf handlers: the watch of jobs, and a login."""
    registry = kopf.OperatorRegistry()

    def login(**kwargs: Any) -> Any:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    # A coroutine, since kopf runs plain functions in threads, and the queue belongs to the loop's.
    async def on_job(*, type: str | None, body: Mapping[str, Any], **_: Any) -> None:  # noqa: A002
        handlers.job(type, body)

    kopf.on.login(registry=registry)(login)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(on_job)
    return registry


class _NoDiffs(kopf.DiffBaseStorage):  # type: ignore[misc]  # kopf is untyped to us
    """Nobody here asks what changed in an object; kopf would copy each one whole to find out."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


def make_settings() -> kopf.OperatorSettings:
    """Return settings under which kopf only watches: no finalizer, annotation, Event or peering."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.chunk_size = PAGE_SIZE
    settings.persistence.diffbase_storage = _NoDiffs()
    # Until then kopf keeps a task and the last body of each object that it has heard of.
    settings.queueing.idle_timeout = 0.1
    # A node's network may come up after its pods: a packet lost then is repeated ever more rarely.
    settings.watching.connect_timeout = 5
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 30
    return settings
