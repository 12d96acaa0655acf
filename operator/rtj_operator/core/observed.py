"""Everything that a decision may depend on, as frozen data.

`rtj_operator.observe` fills these from live reads or, for a glance, from what the watches showed
last. Durations of silence are measured by the
observing process on its own monotonic clock, so no two machines' clocks are ever compared.
"""

from dataclasses import dataclass, field
from datetime import datetime

from rtj_api.heartbeat import FinalRecord, Heartbeat
from rtj_api.names import Reason
from rtj_api.spec import JobSpec
from rtj_api.status import JobStatus


@dataclass(frozen=True)
class Job:
    """A ResumableTrainingJob."""

    namespace: str
    name: str
    uid: str
    generation: int
    status: JobStatus
    spec: JobSpec | None
    """None when this version of the operator cannot accept it."""
    spec_error: str = ""
    """What is wrong with the spec, with the field's path; empty when it is accepted."""
    deleting: bool = False
    """Whether it was deleted, and is only there until its finalizers are removed."""
    orphans: bool = False
    """Whether what it owns is to outlive it."""


@dataclass(frozen=True)
class ContainerExit:
    """How the trainer container ended."""

    code: int
    reason: str = ""
    """As the kubelet says it: Completed, Error, OOMKilled, ContainerStatusUnknown, …"""
    message: str = ""
    final: FinalRecord | None = None
    """The trainer's own last word, when the termination message holds one."""


@dataclass(frozen=True)
class Waiting:
    """Why a container does not run yet, or why the pod has no node."""

    reason: str
    message: str = ""
    container: str = ""
    """Which container waits; empty for the pod as a whole."""


CRASHES = "CrashLoopBackOff"
"""Why a container waits that fails whenever it is started; also said of it while it runs again."""

FINISHED = ("Succeeded", "Failed")
"""Phases of a pod that has given back node, devices and volumes."""


@dataclass(frozen=True)
class Pod:
    """One pod of the job, of whichever attempt."""

    name: str
    uid: str
    attempt: int
    node: str | None = None
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    deleting: bool = False
    grace_seconds: float = 0.0
    """Grace period of the deletion under way."""
    disruption: Waiting | None = None
    """The condition DisruptionTarget or TerminationTarget, when it is True."""
    waiting: Waiting | None = None
    started: bool = False
    """Whether the trainer container has ever run."""
    exit: ContainerExit | None = None
    companions: bool = False
    """Whether another container than the trainer's has not ended, init containers aside."""
    exits: tuple[tuple[str, int], ...] = ()
    """Name and exit code of each container, init containers included, that has ended."""
    conditions: frozenset[tuple[str, str]] = frozenset()
    """Type and status of each of its conditions."""
    created_time: datetime | None = None
    scheduled_time: datetime | None = None
    """When it got its node."""
    started_time: datetime | None = None
    """When the trainer container started, on its node's clock."""

    @property
    def ended(self) -> bool:
        """Whether the trainer will never run (again) in this pod."""
        return self.exit is not None or self.phase in FINISHED

    @property
    def spent(self) -> bool:
        """Whether nothing of it will run again, so that it holds no more than its logs.

        The phase alone would be too late: the kubelet tells it some moments after the last exit.
        """
        return self.phase in FINISHED or (self.exit is not None and not self.companions)


@dataclass(frozen=True)
class Silence:
    """Seconds since something was last seen to change."""

    heartbeat: float = 0.0
    """The attempt's heartbeat, or since its pod was first seen on a node."""
    node_lease: float = 0.0
    """The Lease in kube-node-lease of the pod's node."""
    node_gone: bool = False
    """The Node object is gone; or it never had a Lease, and its condition Ready is Unknown."""
    progress: float = 0.0
    """Step or phase in the heartbeat, or since the container was first seen running without one."""
    placed: float = 0.0
    """Since the pod was first seen on its node."""
    asked: float = 0.0
    """Since the question that the Lease asks the trainer was first seen there."""
    unstartable: float = 0.0
    """The pod's problem with starting, for as long as it was seen to have one."""
    terminating: float = 0.0
    """Since the pod was first seen with a deletionTimestamp."""


@dataclass(frozen=True)
class Problem:
    """Something that keeps a pod from being created until somebody mends it."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Settings:
    """What the administrator may tune, in seconds."""

    node_silence: float = 12.0
    """A node is dead when heartbeat and node Lease both were silent this long."""
    mirror_interval: float = 10.0
    """Positions are written to status at most this often."""
    recheck_interval: float = 10.0
    """How often a missing ConfigMap or claim is looked for again."""
    lease_interval: float = 5.0
    """How often a trainer is told to beat."""


@dataclass(frozen=True)
class Observed:
    """One look at a job. What may be acted on was read after the key was taken."""

    job: Job
    pods: tuple[Pod, ...] = ()
    gone: Pod | None = None
    """The newest pod as it was last seen; its object may be gone by now."""
    heartbeat: Heartbeat | None = None
    """Of whichever attempt wrote last."""
    lease_found: bool = False
    stacks_asked: str | None = None
    """The standstill that the Lease asks the trainer about."""
    silence: Silence = Silence()
    problems: tuple[Problem, ...] = ()
    refused_for: float = 0.0
    """Seconds for which creating a pod is not tried again; 0 unless the problem is a refusal."""
    fork_uid: str | None = None
    """Uid of the job that spec.forkFrom names; looked for before the first attempt only."""
    exclusive_claim: bool = False
    """Whether only one node at a time can mount the claim; looked for before a launch only."""
    delay: Problem | None = None
    """Why the pod does not start on the node that it has, if its Events tell."""
    since_mirrored: float = float("inf")
    """Seconds since this process last wrote the job's position to status."""
    settings: Settings = field(default_factory=Settings)

    @property
    def beat(self) -> Heartbeat | None:
        """The heartbeat of the current attempt; a beat of an older one says nothing."""
        attempt = self.job.status.attempt
        if attempt and self.heartbeat and self.heartbeat.attempt == attempt.number:
            return self.heartbeat
        return None

    @property
    def pod(self) -> Pod | None:
        """The pod of the current attempt, if it is the one that was recorded."""
        return next((pod for pod in self.pods if self._is_current(pod)), None)

    @property
    def absent(self) -> bool:
        """Whether the attempt has no pod, and is not known to have had one that could begin.

        One that was seen on a node could, though it went before that was written down.
        """
        attempt, last = self.job.status.attempt, self.last_pod
        could_begin = (attempt and attempt.pod_uid) or (last and last.node)
        return self.pod is None and self.beat is None and not could_begin

    @property
    def last_pod(self) -> Pod | None:
        """The same, or as it was last seen."""
        return self.pod or (self.gone if self.gone and self._is_current(self.gone) else None)

    def _is_current(self, pod: Pod) -> bool:
        attempt = self.job.status.attempt
        return (
            attempt is not None
            and pod.name == attempt.pod_name
            and attempt.pod_uid in (None, pod.uid)
        )
