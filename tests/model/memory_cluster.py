"""An API server in memory, strict where the operator's safety depends on it.

It keeps uids, resourceVersions, ownerReferences and graceful deletion, and it can end the calling
operator at any call, before or after the call took effect.
"""

import itertools
from collections.abc import Callable
from datetime import datetime
from typing import Any

from rtj_operator.cluster import (
    JOBS,
    PODS,
    AlreadyExistsError,
    ConflictError,
    Kind,
    Manifest,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from rtj_operator.reconcile import utc_now

from tests.model.copied import copied

Place = tuple[str, str, str]
"""Kind, namespace, name."""


class OperatorKilledError(BaseException):
    """SIGKILL: no handler of the operator's may see it."""


class MemoryCluster:
    """Implements the port `rtj_operator.cluster.Cluster`."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self.now = now
        self.objects: dict[Place, Manifest] = {}
        self.writes: list[tuple[str, str, str]] = []
        """Verb, kind and name of every write that took effect."""
        self.changed: Callable[[str, str, Manifest], None] = lambda _verb, _kind, _manifest: None
        """Called with each object that changed, as a watch would tell."""
        self.kill_in: int | None = None
        """The operator dies at this call from now on; odd ones after the call took effect."""
        self.meanwhile: tuple[int, Callable[[], object]] | None = None
        """What somebody else does just before that call from now on."""
        self.conflict_next = False
        """Somebody else changes the job just before the next status write."""
        self.fail_next = 0
        """So many calls are answered with an error of the server."""
        self.fail_pods = False
        """Pods alone cannot be created, as when a webhook that must be asked is down."""
        self.refuse_pods = False
        """Admission refuses every pod, as an exhausted quota does."""
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)

    # What the operator calls.

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return self._call(lambda: self.read(kind.kind, namespace, name))

    async def list(
        self, kind: Kind, namespace: str, selector: str = "", fields: str = ""
    ) -> list[Manifest]:
        label, _, value = selector.partition("=")

        def read() -> list[Manifest]:
            return [
                copied(found)
                for (k, ns, _), found in self.objects.items()
                if k == kind.kind
                and namespace in ("", ns)
                and (not label or found["metadata"].get("labels", {}).get(label) == value)
                and all(_field(found, wanted) for wanted in fields.split(",") if wanted)
            ]

        return self._call(read)

    async def create(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        def create() -> Manifest:
            if kind is PODS and self.fail_pods:
                raise UnavailableError("failed calling webhook")
            if kind is PODS and self.refuse_pods:
                raise RejectedError("exceeded quota")
            return self.put(kind.kind, namespace, manifest)

        return self._call(create)

    async def replace(
        self, kind: Kind, namespace: str, manifest: Manifest, subresource: str = ""
    ) -> Manifest:
        def replace() -> Manifest:
            place = (kind.kind, namespace, manifest["metadata"]["name"])
            if place not in self.objects:
                raise NotFoundError(str(place))
            if self.conflict_next:
                self.conflict_next = False
                self.update(*place, lambda _: None)
            old = self.objects[place]
            if manifest["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
                raise ConflictError(str(place))
            new = copied(manifest)

            def change(found: Manifest) -> None:
                found[subresource or "spec"] = new[subresource or "spec"]
                if not subresource:
                    found["metadata"]["annotations"] = new["metadata"].get("annotations", {})

            return self.update(*place, change)

        return self._call(replace)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        def delete() -> None:
            if self.read(kind.kind, namespace, name)["metadata"]["uid"] != uid:
                raise ConflictError(name)
            if kind is PODS:
                self.delete_pod(namespace, name)
            else:
                self.remove(kind.kind, namespace, name)

        self._call(delete)

    def _call(self, effect: Callable[[], Any]) -> Any:
        self._let_others_act()
        if self.fail_next:
            self.fail_next -= 1
            raise UnavailableError("etcdserver: leader changed")
        if self.kill_in is None:
            return effect()
        self.kill_in -= 1
        if self.kill_in > 0:
            return effect()
        after_effect, self.kill_in = self.kill_in % 2 == 0, None
        if after_effect:
            effect()
        raise OperatorKilledError

    def _let_others_act(self) -> None:
        if self.meanwhile is None:
            return
        calls, act = self.meanwhile
        self.meanwhile = (calls - 1, act) if calls > 1 else None
        if self.meanwhile is None:
            act()

    # What everybody else does to the cluster.

    def read(self, kind: str, namespace: str, name: str) -> Manifest:
        found = self.objects.get((kind, namespace, name))
        if found is None:
            raise NotFoundError(f"{kind} {namespace}/{name}")
        return copied(found)

    def put(self, kind: str, namespace: str, manifest: Manifest) -> Manifest:
        place = (kind, namespace, manifest["metadata"]["name"])
        if place in self.objects:
            raise AlreadyExistsError(str(place))
        new = copied(manifest)
        new["metadata"] |= {
            "uid": f"uid-{next(self._uids)}",
            "resourceVersion": str(next(self._versions)),
            "namespace": namespace,
            "generation": 1,
            "creationTimestamp": f"{self.now():%Y-%m-%dT%H:%M:%SZ}",
        }
        self.objects[place] = new
        self._tell("create", new, place)
        return copied(new)

    def update(
        self, kind: str, namespace: str, name: str, change: Callable[[Manifest], Any]
    ) -> Manifest:
        found = self.objects[(kind, namespace, name)]
        spec = copied(found.get("spec"))
        change(found)
        found["metadata"]["resourceVersion"] = str(next(self._versions))
        if kind == JOBS.kind and found["spec"] != spec:
            found["metadata"]["generation"] += 1
        self._tell("update", found, (kind, namespace, name))
        return copied(found)

    def delete_pod(self, namespace: str, name: str) -> None:
        """Delete gracefully: a pod without a node goes at once, others when their kubelet says."""
        pod = self.objects[(PODS.kind, namespace, name)]
        if not pod["spec"].get("nodeName"):
            self.remove(PODS.kind, namespace, name)
            return
        grace = pod["spec"]["terminationGracePeriodSeconds"]
        mark = {"deletionTimestamp": "now", "deletionGracePeriodSeconds": grace}
        self.update(PODS.kind, namespace, name, lambda o: o["metadata"].update(mark))

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Let an object vanish; what it owned is deleted, pods gracefully."""
        gone = self.objects.pop((kind, namespace, name), None)
        if gone is None:
            return
        self._tell("delete", gone, (kind, namespace, name))
        self.remove_owned(gone["metadata"]["uid"])

    def remove_owned(self, uid: str) -> None:
        """Collect the garbage of an owner."""
        owned = [
            place
            for place, found in self.objects.items()
            if any(o["uid"] == uid for o in found["metadata"].get("ownerReferences", []))
        ]
        for kind, namespace, name in owned:
            if kind == PODS.kind:
                self.delete_pod(namespace, name)
            else:
                self.remove(kind, namespace, name)

    def _tell(self, verb: str, manifest: Manifest, place: Place) -> None:
        self.writes.append((verb, place[0], place[2]))
        self.changed(verb, place[0], manifest)


def _field(found: Manifest, selector: str) -> bool:
    """Whether an object has the value that a field selector wants."""
    path, _, value = selector.partition("=")
    at: Any = found
    for name in path.split("."):
        at = at.get(name, {})
    return bool(at == value)
