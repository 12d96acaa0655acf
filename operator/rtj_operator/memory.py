"""What one operator process remembers between two looks. Losing all of it costs only time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rtj_operator.cluster import Key
from rtj_operator.core.observed import Job, Pod
from rtj_operator.creations import Creations
from rtj_operator.recent import Recent
from rtj_operator.refusals import Refusals
from rtj_operator.sightings import Sightings
from rtj_operator.silence import Silences


@dataclass
class Memory:
    """Clocks of silence; what was seen; per job its last look and write, and its troubles."""

    clock: Callable[[], float] = time.monotonic
    silences: Silences = field(init=False)
    sightings: Sightings = field(default_factory=Sightings)
    creations: Creations = field(init=False)
    refusals: Refusals = field(init=False)
    claims: Recent[bool] = field(init=False)
    """Whether each can be on one node only."""
    config_maps: Recent[list[str]] = field(init=False)
    """The keys of each."""
    resting: dict[Key, str] = field(default_factory=dict)
    """The resourceVersion at which a job wanted nothing."""
    _met: dict[Key, tuple[str, int]] = field(default_factory=dict)
    """Uid and generation of the job that the following is known of."""
    _looked: dict[Key, float] = field(default_factory=dict)
    _mirrored: dict[Key, float] = field(default_factory=dict)
    _last_pods: dict[Key, Pod] = field(default_factory=dict)
    _asked: dict[Key, tuple[str, float]] = field(default_factory=dict)
    """The pod whose Events were read, and when they may be read again."""

    def __post_init__(self) -> None:
        self.silences = Silences(self.clock)
        self.creations = Creations(self.clock)
        self.refusals = Refusals(self.clock)
        self.claims = Recent(self.clock)
        self.config_maps = Recent(self.clock)

    def looked(self, key: Key, job: Job) -> None:
        """Note that all of the job was read just now.

        What an older job of its name met is no matter of it, nor a refusal of what its spec was.
        """
        self._looked[key] = self.clock()
        uid, _ = before = self._met.get(key, ("", 0))
        self._met[key] = (job.uid, job.generation)
        if uid != job.uid:
            self._start_anew(key)
        elif before != self._met[key]:
            self.refusals.over(key)

    def since_looked(self, key: Key) -> float:
        """Return the seconds since then; infinite for a process that has just started."""
        return self.clock() - self._looked.get(key, float("-inf"))

    def mirrored(self, key: Key) -> None:
        """Note that the job's position was written just now."""
        self._mirrored[key] = self.clock()

    def since_mirrored(self, key: Key) -> float:
        """Return the seconds since then; infinite for a process that has just started."""
        return self.clock() - self._mirrored.get(key, float("-inf"))

    def may_ask(self, key: Key, pod: Pod) -> bool:
        """Whether the Events of a pod that does not start may be read, or read again."""
        uid, due = self._asked.get(key, ("", 0.0))
        return uid != pod.uid or self.clock() >= due

    def asked(self, key: Key, pod: Pod, pause: float) -> None:
        """Note that they are read now, and not again for so many seconds."""
        self._asked[key] = (pod.uid, self.clock() + pause)

    def saw_pod(self, key: Key, pod: Pod) -> None:
        """Note that the pod is there, though its creation may have seemed to fail.

        While it was read a watch may have told more of it; no pod starts or ends twice.
        """
        self.refusals.works(key)
        kept = self._last_pods.get(key)
        if not (kept and kept.uid == pod.uid and _progress(kept) > _progress(pod)):
            self._last_pods[key] = pod

    def pod_gone(self, key: Key, job_uid: str, pod: Pod) -> None:
        """Keep how a pod was seen last, which may have started and gone between two looks.

        A pod of an older attempt may outlive the newest one's, and one of an older job them all.
        Whoever waits to lead has looked at no job, and knows those at work by the watch.
        """
        seen = self.sightings.of(key)
        if seen and key not in self._met:
            self._met[key] = (seen.job["metadata"]["uid"], 0)
        known_uid, _ = self._met.get(key, ("", 0))
        kept = self._last_pods.get(key)
        if job_uid == known_uid and (kept is None or kept.attempt <= pod.attempt):
            self._last_pods[key] = pod

    def last_pod(self, key: Key, job_uid: str) -> Pod | None:
        """Return the job's newest pod as it was last seen, by a look or by the watch.

        It may be gone, and the watch about to tell so.
        """
        kept = self._last_pods.get(key)
        seen = (*self.sightings.pods_of(key, job_uid), *([kept] if kept else []))
        return max(seen, key=lambda pod: (pod.attempt, *_progress(pod)), default=None)

    def rests(self, key: Key, version: str) -> None:
        """Note that the job, as of this resourceVersion, wants nothing."""
        self.resting[key] = version
        self._last_pods.pop(key, None)

    def forget(self, key: Key) -> None:
        """Drop what is known of a job that is gone."""
        self.sightings.forget(key)
        self.resting.pop(key, None)
        self._met.pop(key, None)
        self._looked.pop(key, None)
        self._start_anew(key)

    def _start_anew(self, key: Key) -> None:
        self.creations.forget(key)
        self._mirrored.pop(key, None)
        self._last_pods.pop(key, None)
        self._asked.pop(key, None)
        self.refusals.forget(key)


def _progress(pod: Pod) -> tuple[bool, bool]:
    """Return how far a pod came in its life, in an order that it never goes back in."""
    return pod.started, pod.ended
