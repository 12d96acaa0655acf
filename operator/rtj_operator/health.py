"""Whether this process does its work: what /healthz and /readyz answer.

Unhealthy means that a restart is likely to help, so an API server that is out of reach is no
reason: kopf and the leader election try again by themselves, and a new process could do no more.

A watch that hangs looks just like a watch with nothing to tell. So we compare it with what we know
otherwise: whatever this process writes (a status, a pod, a Lease), and each renewal of the leader's
Lease that it reads, must come back through the watch. This proves the whole way of an event: the
stream, kopf's queues and our handlers. A stream that was silent for 70 s is ended and opened
again; only if the news has not come even then do we call the watch dead.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rtj_operator.cluster import JOBS, LEASES, NODE_LEASES, PODS, Kind
from rtj_operator.silence import Silences

LONGEST_TURN_SECONDS = 120.0
"""A turn is about a dozen requests, each of which is given up after 15 s."""
LONGEST_ROUND_SECONDS = 30.0
"""Leader election comes round every two seconds, or later if the API server asks for that; its
requests are given up after three."""
LONGEST_WATCH_SILENCE_SECONDS = 90.0
"""More than the 70 s after which a silent stream is opened again."""
LONGEST_UNREACHED_SECONDS = 15.0
"""Without an answer of the API server for so long, a process is not ready."""


@dataclass(frozen=True)
class Vitals:
    """What one look at the process finds; all in seconds."""

    turn: float = 0.0
    """Of the turn that has been under way longest; 0 if none is."""
    leader_round: float = 0.0
    """Since leader election should have come round; 0 before it began."""
    unheard: Mapping[str, float] = field(default_factory=dict)
    """By watch: for how long it has owed us an event, while the API server was in reach."""
    unreached: float = 0.0
    """Since the API server last answered."""
    watching: bool = True
    """Whether the watches have begun, and have told of something where they always can."""


def ailments(vitals: Vitals) -> list[str]:
    """Say what a restart would mend; nothing if all is well."""
    found = []
    if vitals.turn > LONGEST_TURN_SECONDS:
        found.append(f"a worker has been busy with one job for {vitals.turn:.0f} s")
    if vitals.leader_round > LONGEST_ROUND_SECONDS:
        found.append(f"leader election stopped {vitals.leader_round:.0f} s ago")
    for watch, seconds in sorted(vitals.unheard.items()):
        if seconds > LONGEST_WATCH_SILENCE_SECONDS:
            found.append(f"the watch of {watch} has not told of a change for {seconds:.0f} s")
    return found


def obstacles(vitals: Vitals) -> list[str]:
    """Say why the process cannot work, or take over, right now."""
    found = ailments(vitals)
    if not vitals.watching:
        found.append("the watches have not begun")
    elif vitals.unreached > LONGEST_UNREACHED_SECONDS:
        found.append(f"the API server has not answered for {vitals.unreached:.0f} s")
    return found


class Pulse:
    """Collects the vitals: whoever does a part of the work tells it here."""

    def __init__(
        self,
        silences: Silences,
        namespaces: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.silences = silences
        self._watched = {*namespaces, NODE_LEASES} if namespaces else set()
        self.clock = clock
        self._round: float | None = None
        self._heard: dict[str, float] = {}
        self._owed: dict[str, float] = {}
        """By watch: since when it owes us an event."""

    def came_round(self, pause: float = 0.0) -> None:
        """Note that leader election is alive, whoever leads, and rests for so many seconds."""
        self._round = self.clock() + pause

    def changed(self, kind: Kind, namespace: str, since: float) -> None:
        """Note that an object has certainly changed, at some time after `since`."""
        watch = self._watch(kind, namespace)
        if watch and self._heard.get(watch, float("-inf")) < since:
            self._owed.setdefault(watch, since)

    def heard(self, kind: Kind, namespace: str) -> None:
        """Note an event of a watch."""
        if watch := self._watch(kind, namespace):
            self._heard[watch] = self.clock()
            self._owed.pop(watch, None)

    def listening(self) -> bool:
        """Whether the watches are known to work.

        In a whole cluster the leader's Lease is there at least; in named namespaces there may be
        nothing to tell of.
        """
        return bool(self._heard or self._watched)

    def vitals(self, turn: float, *, watching: bool) -> Vitals:
        """Return all that is known now; the arguments are as in `Vitals`."""
        now, reached = self.clock(), self.silences.uninterrupted()
        return Vitals(
            turn=turn,
            leader_round=max(now - self._round, 0.0) if self._round is not None else 0.0,
            unheard={watch: min(now - since, reached) for watch, since in self._owed.items()},
            unreached=self.silences.since_contact(),
            watching=watching,
        )

    def _watch(self, kind: Kind, namespace: str) -> str | None:
        """Name the watch that tells of such objects; None if there is none."""
        if kind not in (JOBS, PODS, LEASES):
            return None
        if not self._watched:
            return kind.plural
        return f"{kind.plural} in {namespace}" if namespace in self._watched else None
