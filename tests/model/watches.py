"""The watches of the operator, and all that goes wrong between an object and who hears of it.

There is one stream for each kind. Each keeps its own order and none that of another, so a deletion
may be heard long before the change that led to it. A stream may lag behind, tell again what it has
told, or break off: then it lists what is there, and tells of no deletion that it missed.
"""

import copy
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rtj_operator.cluster import JOBS, LEASES, PODS, Manifest

KINDS = (JOBS.kind, LEASES.kind, PODS.kind)
TOLD_AGAIN_AT_MOST = 5

Event = tuple[str, str, Manifest]
"""Verb, kind and object."""


@dataclass
class Watches:
    """Brings events to who hears them."""

    hear: Callable[[str, str, Manifest], None]
    lagging: set[str] = field(default_factory=set)
    """The kinds of which nothing is heard for now."""
    _unheard: list[Event] = field(default_factory=list)
    told: dict[str, deque[Event]] = field(default_factory=lambda: defaultdict(_newest))
    """By kind, the newest events that were heard, oldest first."""

    def tell(self, verb: str, kind: str, manifest: Manifest) -> None:
        """Tell of a change, now or later."""
        event = (verb, kind, copy.deepcopy(manifest))
        if kind in self.lagging:
            self._unheard.append(event)
            return
        self.told[kind].append(event)
        self.hear(*event)

    def catch_up(self, kind: str) -> None:
        """Tell what was not heard of a kind."""
        for event in self._take(kind):
            self.tell(*event)

    def list_anew(self, kind: str, there: Iterable[Manifest]) -> None:
        """Tell what is there instead of what happened."""
        self._take(kind)
        for manifest in there:
            self.tell("list", kind, manifest)

    def _take(self, kind: str) -> list[Event]:
        """End the lag of a kind; return what was not heard of it."""
        self.lagging.discard(kind)
        taken = [event for event in self._unheard if event[1] == kind]
        self._unheard = [event for event in self._unheard if event[1] != kind]
        return taken


def _newest() -> deque[Event]:
    return deque(maxlen=TOLD_AGAIN_AT_MOST)
