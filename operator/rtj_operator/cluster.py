"""The port: what the operator needs of a cluster, and the ways in which that may fail.

Objects are plain dicts as on the wire, since typed models drop or refuse fields that they do not
know, and a user's pod template may hold any.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from rtj_api import names

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A resource as its URL names it."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True


RBAC, COORDINATION = "rbac.authorization.k8s.io/v1", "coordination.k8s.io/v1"

JOBS = Kind(names.API_VERSION, names.PLURAL, names.KIND)
PODS = Kind("v1", "pods", "Pod")
LEASES = Kind(COORDINATION, "leases", "Lease")
NODES = Kind("v1", "nodes", "Node", namespaced=False)
CONFIG_MAPS = Kind("v1", "configmaps", "ConfigMap")
CLAIMS = Kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
ACCOUNTS = Kind("v1", "serviceaccounts", "ServiceAccount")
ROLES = Kind(RBAC, "roles", "Role")
BINDINGS = Kind(RBAC, "rolebindings", "RoleBinding")
EVENTS = Kind("v1", "events", "Event")

CREATED_KINDS = {kind.kind: kind for kind in (ACCOUNTS, ROLES, BINDINGS, LEASES, PODS)}

PAGE_SIZE = 500
"""Objects that are listed at once: pages keep the memory of both sides flat."""

NODE_LEASES = "kube-node-lease"
"""Namespace in which every kubelet renews its node's Lease."""


@dataclass(frozen=True, order=True)
class Key:
    """Names a job."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ClusterError(Exception):
    """Base of all failures of the port; its text is the API server's message."""


class NotFoundError(ClusterError):
    """There is no such object, or no such kind."""


class AlreadyExistsError(ClusterError):
    """The name is taken."""


class ConflictError(ClusterError):
    """The object changed since it was read, or is not the one whose uid was given."""


class RejectedError(ClusterError):
    """The API server understood and refused: forbidden, invalid, or over quota."""


class UnavailableError(ClusterError):
    """No answer, or none that says whether the request took effect."""

    def __init__(self, message: str, retry_after: float = 0.0, *, answered: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds for which the API server does not want to be asked again."""
        self.answered = answered
        """Whether the API server said so itself: then it is there."""


class ExpiredError(UnavailableError):
    """The API server does not remember this version any more: list again."""


class Cluster(Protocol):
    """What the operator acts through. Every method may raise UnavailableError."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """Read one object, never from a cache. Raises NotFoundError, RejectedError."""
        ...

    async def list(
        self, kind: Kind, namespace: str, selector: str = "", fields: str = ""
    ) -> list[Manifest]:
        """Read all objects with these labels and fields, never from a cache.

        Namespace "" means all.
        """
        ...

    def each(
        self, kind: Kind, namespace: str, selector: str = "", fields: str = ""
    ) -> AsyncIterator[Manifest]:
        """Read the same, a page of them in memory at a time."""
        ...

    async def create(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        """Create. Raises AlreadyExistsError, RejectedError, NotFoundError (no namespace)."""
        ...

    async def replace(
        self, kind: Kind, namespace: str, manifest: Manifest, subresource: str = ""
    ) -> Manifest:
        """Replace at the resourceVersion in the manifest. Raises ConflictError, NotFoundError."""
        ...

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete exactly this uid, dependants in the background.

        Raises NotFoundError, or ConflictError when the name is another object's.
        """
        ...
