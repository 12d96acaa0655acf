"""The watches of the operator, and all that goes wrong between an object and who hears of it.

There is one stream for each kind. Each keeps its own order and none that of another, so a deletion
may be heard long before the change that led to it. A stream may lag behind, tell again what it has
told, or break off: then it lists what is there, and tells that what it once told of has gone. Of
what came and went meanwhile it tells nothing. A bad one tells of no deletion that it missed.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rtj_operator.cluster import JOBS, LEASES, PODS, Manifest

from tests.model.copied import copied

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
    lossy: bool = False
    """Whether a deletion may have been lost that a good watch tells of."""
    _there: dict[str, dict[str, Manifest]] = field(default_factory=lambda: defaultdict(dict))
    """By kind and uid, what was told of and not yet that it has gone."""

    def tell(self, verb: str, kind: str, manifest: Manifest) -> None:
        """Tell of a change, now or later."""
        event = (verb, kind, copied(manifest))
        if kind in self.lagging:
            self._unheard.append(event)
        else:
            self._bring(event)

    def _bring(self, event: Event) -> None:
        self.told[event[1]].append(event)
        self._note(*event)
        self.hear(*event)

    def _note(self, verb: str, kind: str, manifest: Manifest) -> None:
        uid = manifest["metadata"]["uid"]
        if verb == "delete":
            self._there[kind].pop(uid, None)
        else:
            self._there[kind][uid] = manifest

    def catch_up(self, kind: str) -> None:
        """Tell what was not heard of a kind."""
        for event in self._take(kind):
            self.tell(*event)

    def tell_oldest(self, kind: str) -> None:
        """Tell the oldest of what was not heard of a kind, if anything; the rest stays behind."""
        unheard = next((event for event in self._unheard if event[1] == kind), None)
        if unheard:
            self._unheard.remove(unheard)
            self._bring(unheard)

    def list_anew(self, kind: str, there: Iterable[Manifest], *, loses: bool = False) -> None:
        """Tell what is there instead of what happened, and what has gone unless that is lost.

        That a job has gone is lost always: the framework does not tell it after a list.
        """
        self._take(kind)
        self.lossy = loses
        gone = dict(self._there[kind])
        for manifest in there:
            gone.pop(manifest["metadata"]["uid"], None)
            self.tell("list", kind, manifest)
        if kind != JOBS.kind and not loses:
            for manifest in gone.values():
                self.tell("delete", kind, {"metadata": manifest["metadata"]})

    def _take(self, kind: str) -> list[Event]:
        """End the lag of a kind; return what was not heard of it."""
        self.lagging.discard(kind)
        taken = [event for event in self._unheard if event[1] == kind]
        self._unheard = [event for event in self._unheard if event[1] != kind]
        return taken


def _newest() -> deque[Event]:
    return deque(maxlen=TOLD_AGAIN_AT_MOST)
