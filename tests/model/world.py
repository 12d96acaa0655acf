"""The world around the operator: nodes, kubelets, trainers with their volume, and time.

The trainers keep the protocol of the real one as far as the operator can see it: an exclusive fence
per attempt, no commit once a newer fence exists, a heartbeat in the Lease, exit codes.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from rtj_api.heartbeat import (
    CommitRef,
    FinalRecord,
    Heartbeat,
    Position,
    StackDump,
    TrainerPhase,
)
from rtj_api.names import (
    ANNOTATION_DUMP_STACKS,
    ANNOTATION_HEARTBEAT,
    LABEL_ATTEMPT,
    Cause,
    ExitCode,
    Reason,
)
from rtj_api.status import EndedAttempt, JobStatus
from rtj_operator.act import announce
from rtj_operator.cluster import EVENTS, JOBS, LEASES, NODE_LEASES, NODES, PODS, ClusterError, Key
from rtj_operator.core.observed import Settings
from rtj_operator.handlers import Handlers
from rtj_operator.health import Pulse
from rtj_operator.memory import Memory
from rtj_operator.passing_over import passed_over
from rtj_operator.queue import FIRST_RETRY_SECONDS, WorkQueue
from rtj_operator.reconcile import Reconciler
from rtj_trainer.stopwatch import Stopwatch

from tests.model.manifests import (
    HANG_SECONDS,
    JOB,
    NAMESPACE,
    TOTAL_STEPS,
    config_map,
    make_job,
    read_config,
)
from tests.model.memory_cluster import MemoryCluster, OperatorKilledError
from tests.model.promise import promise
from tests.model.trainer import Trainer
from tests.model.volume import Volume
from tests.model.watches import KINDS, Watches

KEY = Key(NAMESPACE, JOB)
START = datetime(2026, 1, 1, tzinfo=UTC)
NODE_NAMES = ("node-a", "node-b")
JOB_PLACE = (JOBS.kind, NAMESPACE, JOB)
FOREGROUND, FOREIGN = "foregroundDeletion", "example.com/backup"
"""Finalizers: of the garbage collector, and of somebody who knows nothing of pods."""
EVENT_TYPES = {"create": "ADDED", "update": "MODIFIED", "delete": "DELETED"}
RESYNC_SECONDS = 300
"""How often the operator looks at every job though nothing was heard."""


class Due(WorkQueue):
    """Tells the world that a turn of its one job is due, instead of keeping a queue."""

    def __init__(self, due: Callable[[], None]) -> None:
        self._tell = due

    def add(self, key: Key, patience: float = 0.0) -> None:
        if key == KEY:
            self._tell()


class World:
    """A two-node cluster with one job, and the operator that is tested."""

    def __init__(
        self,
        run_policy: dict[str, Any] | None = None,
        no_progress: int = 3,
        failure_policy: dict[str, Any] | None = None,
    ) -> None:
        self.time = 0.0
        """By the monotonic clocks, which never jump."""
        self.wall_offset = 0.0
        """By how much the operator's wall clock has jumped ahead."""
        self.set_back = False
        """Whether it ever jumped back."""
        self.jumped = False
        """Whether it jumped since the operator's last turn, which knows of no deadline by it."""
        self.api = MemoryCluster(self.now)
        self.live_nodes = set(NODE_NAMES)
        self.live_since = dict.fromkeys(NODE_NAMES, 0.0)
        """Since when a live node has been so without a break."""
        self.slow_start = False
        """Whether trainers restore only after they were heard for the first time."""
        self.wrongly_ended: list[str] = []
        """Attempts that were ended though nothing was wrong with them."""
        self.trainers: dict[str, Trainer] = {}
        self.volume = Volume()
        self.statuses: list[JobStatus] = []
        self.written_at: list[datetime] = []
        """When each of them was written."""
        self.asked: set[int] = set()
        """Attempts that were asked for their stacks."""
        self.clock_skew = dict.fromkeys(NODE_NAMES, 0.0)
        """By how much the clock of a node is ahead of the true time."""
        self.beat_seconds = 1
        """How often a trainer renews its Lease; the real one's every 5 s."""
        self.node_seconds = 1
        """How often a kubelet renews its node's; a real one every 10 s."""
        self.leader_seconds = 1
        """How often the operator renews its own; the real one every 2 s."""
        self.undecided_pods: list[str] = []
        """Pods that were created though status did not name them as wanted."""
        self.made_again: list[str] = []
        """Pods that were created though the operator had heard of one of that name on a node."""
        self.deleted = False
        """Whether a user has deleted the job; it may be there for a while, with its pods."""
        self.written_after_deletion: list[tuple[str, str, str]] = []
        """What the operator wrote in turns that began after that."""
        self.due: float | None = 0.0
        self.turns = 0
        self._loop = asyncio.new_event_loop()
        self._create_inputs()
        policy = {"maxNoProgressRestarts": no_progress, **(failure_policy or {})}
        job = self.api.put(JOBS.kind, NAMESPACE, make_job(run_policy or {}, policy))
        self.uid = job["metadata"]["uid"]
        self.start_operator()
        self.api.changed = self._on_change

    def _create_inputs(self) -> None:
        """Create the nodes, and what the job mounts."""
        for node in NODE_NAMES:
            self.api.put(NODES.kind, "", {"metadata": {"name": node}})
            lease = {"metadata": {"name": node}, "spec": {"renewTime": "0"}}
            self.api.put(LEASES.kind, NODE_LEASES, lease)
        self.api.put("ConfigMap", NAMESPACE, config_map())
        self.api.put("PersistentVolumeClaim", NAMESPACE, {"metadata": {"name": "work"}})

    def close(self) -> None:
        self._loop.close()

    # The operator.

    def start_operator(self) -> None:
        """Start a fresh process: nothing is remembered but what the watches tell at the start."""
        self._memory = Memory(clock=lambda: self.time)
        self._reconciler = Reconciler(
            self.api,
            self._memory,
            Settings(),
            partial(announce, self.api),
            now=self.now,
        )
        pulse = Pulse(self._memory.silences, clock=lambda: self.time)
        self._handlers = Handlers(Due(self._ask), self._memory, pulse)
        self.watches = Watches(self._hear)
        self._placed: set[str] = set()
        """Names of pods that this process has heard to have a node."""
        self.due = None
        for (kind, _, _), found in self.api.objects.items():
            self.watches.tell("list", kind, found)
        self._handlers.lead()
        self.come_by()

    def _ask(self) -> None:
        self.due = self.time

    def come_by(self) -> None:
        """Ask for a turn unless the job wants nothing, as when the operator lists all jobs."""
        raw = self.api.objects.get(JOB_PLACE)
        if raw is None or not passed_over(raw, self._memory):
            self.due = self.time

    def work(self) -> None:
        """Let the operator take turns until nothing is due; restart it when it is killed."""
        for _ in range(200):
            if self.due is None or self.due > self.time:
                return
            self.turn()
        self.the_operator_comes_to_rest()

    @promise
    def the_operator_comes_to_rest(self) -> None:
        assert self.due is None or self.due > self.time, "another turn is always due"

    def turn(self) -> None:
        """Take one turn, due or not."""
        self.turns += 1
        self.due, self.jumped = None, False
        deleted, before = self.deleted, len(self.api.writes)
        try:
            delay = self._loop.run_until_complete(self._reconciler(KEY))
        except OperatorKilledError:
            self.start_operator()
            return
        except ClusterError:
            delay = FIRST_RETRY_SECONDS
        if deleted:
            self.written_after_deletion += self.api.writes[before:]
        if delay is not None:
            self.due = min(self.time + delay, self.due if self.due is not None else float("inf"))

    def look_early(self) -> None:
        """Take a turn before it is due, and read all in it."""
        self._memory._looked.clear()
        self.turn()

    # What the operator hears.

    @property
    def behind(self) -> bool:
        """Whether the operator's watches lag behind; it works on, with what they said before."""
        return bool(self.watches.lagging)

    @behind.setter
    def behind(self, lags: bool) -> None:
        self.watches.lagging = set(KINDS) if lags else set()

    def catch_up(self, kinds: Iterable[str] = KINDS) -> None:
        """Let the watches tell all that happened while they lagged behind, kind by kind."""
        for kind in kinds:
            self.watches.catch_up(kind)
        self._hear_renewals()

    def list_anew(self, *, loses: bool = False) -> None:
        """Let the watches break off, and be good ones or lose deletions for good."""
        for kind in (JOBS.kind, LEASES.kind):
            self._list_anew(kind, loses=loses)
        self.list_pods_anew(loses=loses)
        self._hear_renewals()

    def list_pods_anew(self, *, loses: bool = False) -> None:
        """Let the watch of pods alone do so."""
        self._list_anew(PODS.kind, loses=loses)
        self._handlers.pods_listed()

    def _list_anew(self, kind: str, *, loses: bool) -> None:
        there = [found for (k, _, _), found in self.api.objects.items() if k == kind]
        self.watches.list_anew(kind, there, loses=loses)

    def hear_again(self, kind: str) -> None:
        """Let a watch tell once more what it told last; the operator looks at each event."""
        for event in list(self.watches.told[kind]):
            self._hear(*event)
            self.turn()

    def _hear(self, verb: str, kind: str, manifest: dict[str, Any]) -> None:
        """Let the operator's own handlers take an event; what a list shows has no type."""
        handlers = self._handlers
        takes = {JOBS.kind: handlers.job, PODS.kind: handlers.pod, LEASES.kind: handlers.lease}
        if kind in takes:
            takes[kind](EVENT_TYPES.get(verb), manifest)
        if kind == PODS.kind and manifest.get("spec", {}).get("nodeName"):
            self._placed.add(manifest["metadata"]["name"])

    def _on_change(self, verb: str, kind: str, manifest: dict[str, Any]) -> None:
        if kind == JOBS.kind and verb == "update" and "status" in manifest:
            self._note_status(JobStatus.model_validate(manifest["status"]))
        self._note_question(manifest)
        if kind == PODS.kind and verb == "create":
            attempt = self.status().attempt
            name = manifest["metadata"]["name"]
            if attempt is None or attempt.pod_name != name:
                self.undecided_pods.append(name)
            if name in self._placed:
                self.made_again.append(name)
        self.watches.tell(verb, kind, manifest)

    def _note_status(self, status: JobStatus) -> None:
        same = bool(self.statuses) and status == self.statuses[-1]
        self.written_at.append(self.written_at[-1] if same else self.now())
        self.statuses.append(status)
        before = self.statuses[-2].attempts if len(self.statuses) > 1 else []
        if status.attempts and (not before or status.attempts[-1].number > before[-1].number):
            self._judge_the_judge(status.attempts[-1])

    def _judge_the_judge(self, ended: EndedAttempt) -> None:
        """Note an attempt that was ended though its node lives and its trainer moves."""
        for trainer in self.trainers.values():
            if trainer.attempt != ended.number or trainer.node not in self.live_nodes:
                continue
            heard = self.time - self.live_since[trainer.node]
            moved = self.time - trainer.moved_at
            lost = ended.reason is Reason.NODE_LOST and heard > Settings.node_silence
            hung = ended.cause is Cause.HUNG and moved < HANG_SECONDS
            if lost or hung:
                self.wrongly_ended.append(f"{ended}: heard for {heard}, moved {moved} ago")

    def _note_question(self, manifest: dict[str, Any]) -> None:
        text = manifest["metadata"].get("annotations", {}).get(ANNOTATION_DUMP_STACKS)
        if text:
            self.asked.add(int(text.split("-")[0]))

    def uninterrupted(self) -> float:
        """Return for how long the operator has heard the API server without a gap."""
        return self._memory.silences.uninterrupted()

    # Time, and what happens in it by itself.

    def now(self) -> datetime:
        """Return what the operator's wall clock shows."""
        return START + timedelta(seconds=self.time + self.wall_offset)

    def jump(self, seconds: float) -> None:
        """Let the operator's wall clock jump, as when it is set right after a long time."""
        self.wall_offset += seconds
        self.set_back = self.set_back or seconds < 0
        self.jumped = True

    def now_on(self, node: str) -> str:
        """Return what a node's clock shows, as its kubelet writes it."""
        time = START + timedelta(seconds=self.time + self.clock_skew[node])
        return time.strftime("%Y-%m-%dT%H:%M:%SZ")

    def advance(self, seconds: float) -> None:
        """Let time pass, with watches that have caught up."""
        self.catch_up()
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        """Let time pass; live nodes and trainers beat, and the operator works when due."""
        end = self.time + seconds
        while self.time < end:
            self.time = min(self.time + 1.0, end)
            self._renew_leadership()
            self._live()
            if not int(self.time) % RESYNC_SECONDS:
                self.come_by()
            self.work()

    def _renew_leadership(self) -> None:
        """Let the operator's leader reach the API server, or fail to."""
        if int(self.time) % self.leader_seconds:
            return
        if self.api.fail_next:
            self.api.fail_next -= 1
            self._memory.silences.interrupted()
        else:
            self._memory.silences.contact()

    def _live(self) -> None:
        """Let this second's heartbeats be heard."""
        if not int(self.time) % self.node_seconds:
            for node in self.live_nodes:
                self._renew_node(node)
        if not int(self.time) % self.beat_seconds:
            for trainer in list(self.trainers.values()):
                if trainer.node in self.live_nodes:
                    self.beat(trainer)

    def _renew_node(self, node: str) -> None:
        spec = self.api.objects[(LEASES.kind, NODE_LEASES, node)]["spec"]
        spec["renewTime"] = str(self.time + self.clock_skew[node])
        self._hear_renewals([node])

    def _hear_renewals(self, nodes: Iterable[str] = NODE_NAMES) -> None:
        """Let the operator hear when the Leases of nodes were renewed last."""
        for place in [(LEASES.kind, NODE_LEASES, node) for node in nodes]:
            if LEASES.kind not in self.watches.lagging and place in self.api.objects:
                self._handlers.lease("MODIFIED", self.api.objects[place])

    def status(self) -> JobStatus:
        """Return the job's status, or what it was last once the job is gone."""
        if JOB_PLACE not in self.api.objects:
            return self.statuses[-1] if self.statuses else JobStatus()
        raw = self.api.read(*JOB_PLACE).get("status", {})
        return JobStatus.model_validate(raw)

    def events(self, reason: Reason) -> list[str]:
        """Return the messages of the Events with this reason."""
        posted = [found for (kind, _, _), found in self.api.objects.items() if kind == EVENTS.kind]
        return [event["message"] for event in posted if event["reason"] == reason]

    # Scheduler and kubelets.

    def pods(self) -> list[dict[str, Any]]:
        return [pod for (kind, _, _), pod in self.api.objects.items() if kind == PODS.kind]

    def schedule(self) -> None:
        """Give every waiting pod a node."""
        for pod in self.pods():
            if not pod["spec"].get("nodeName") and self.live_nodes:
                node = min(self.live_nodes)
                self._update_pod(pod, lambda p, n=node: p["spec"].update({"nodeName": n}))

    def start_containers(self) -> None:
        """Let every scheduled pod on a live node start its trainer, which takes the fence."""
        for pod in self.pods_to_start():
            name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
            attempt = int(pod["metadata"]["labels"][LABEL_ATTEMPT])
            started_at = self.now_on(node)
            self._set_state(pod, "Running", {"running": {"startedAt": started_at}})
            if any(fence >= attempt for fence in self.volume.fences):
                self._exit(pod, ExitCode.SUPERSEDED)
                continue
            self.volume.fences.add(attempt)
            request = read_config(pod).restore
            answer = self.volume.answer(request) if request else None
            newest = self.volume.newest
            trainer = Trainer(
                name,
                pod["metadata"]["uid"],
                attempt,
                node,
                newest.step if newest else 0,
                newest,
                newest,
                watch=Stopwatch(clock=lambda: self.time),
                started_at=started_at,
                answer=answer,
                restored=not self.slow_start,
                moved_at=self.time,
            )
            if trainer.restored:
                trainer.watch.enter_phase(TrainerPhase.TRAINING)
            self.trainers[trainer.uid] = trainer
            self.beat(trainer)

    def fail_image_pulls(self, reason: str) -> None:
        """Let the kubelets fail to pull the image of every scheduled pod that has not started."""
        for pod in self.pods_to_start():
            self._set_state(pod, "Pending", {"waiting": {"reason": reason}})

    def pods_to_start(self) -> list[dict[str, Any]]:
        """Return the pods on a live node whose container never ran."""
        return [
            pod
            for pod in self.pods()
            if pod.get("status", {}).get("phase", "Pending") == "Pending"
            and pod["spec"].get("nodeName") in self.live_nodes
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def finish_deletions(self) -> None:
        """Let live kubelets stop the pods that are to go, and remove their objects."""
        for pod in self.pods():
            if "deletionTimestamp" not in pod["metadata"]:
                continue
            if pod["spec"].get("nodeName") not in self.live_nodes:
                continue
            trainer = self.trainers.get(pod["metadata"]["uid"])
            if trainer:
                self.commit(trainer)
            if pod["metadata"]["uid"] in self.trainers:
                self.end(trainer, ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED)
            self.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])
        self._collect_garbage()

    def _collect_garbage(self) -> None:
        """Delete what belongs to a job that is gone, and a job that waited for its pods to go."""
        if not self.deleted:
            return
        if JOB_PLACE not in self.api.objects:
            self.api.remove_owned(self.uid)
        elif not self.pods() and not self.kept:
            self.api.remove(*JOB_PLACE)

    def kill_node(self, node: str) -> None:
        """Power off: its trainers stop and nobody tells."""
        self.live_nodes.discard(node)
        for uid in [uid for uid, t in self.trainers.items() if t.node == node]:
            del self.trainers[uid]

    def partition_node(self, node: str) -> None:
        """Cut the network: its trainers run on, and reach only the volume."""
        self.live_nodes.discard(node)

    def revive_node(self, node: str) -> None:
        """Bring a node back; its kubelet reports pods that it no longer has as lost."""
        if node not in self.live_nodes:
            self.live_nodes.add(node)
            self.live_since[node] = self.time
        self._renew_node(node)
        for pod in self.pods():
            running = pod.get("status", {}).get("phase") == "Running"
            known = pod["metadata"]["uid"] in self.trainers
            if running and not known and pod["spec"].get("nodeName") == node:
                state = {"exitCode": 137, "reason": "ContainerStatusUnknown"}
                self._set_state(pod, "Failed", {"terminated": state})

    def evict(self, pod: dict[str, Any]) -> None:
        """Evict through the API, as a drain does."""
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
        }
        self._update_pod(pod, lambda p: p.setdefault("status", {}).update(conditions=[condition]))
        self.api.delete_pod(NAMESPACE, pod["metadata"]["name"])

    # Trainers.

    def train(self, trainer: Trainer, steps: int = 5) -> None:
        """Take some steps, unless it hangs."""
        if not trainer.hung:
            trainer.restored = True
            trainer.watch.enter_phase(TrainerPhase.TRAINING)
            if trainer.step < TOTAL_STEPS:
                trainer.moved_at = self.time
            trainer.step = min(trainer.step + steps, TOTAL_STEPS)
            self.beat(trainer)

    def commit(self, trainer: Trainer) -> None:
        """Commit, unless a newer attempt has fenced this one off."""
        if trainer.hung or not trainer.restored:
            return
        if max(self.volume.fences) > trainer.attempt:
            self.end(trainer, ExitCode.SUPERSEDED, Reason.SUPERSEDED)
            return
        if trainer.commit is None or trainer.step > trainer.commit.step:
            name = f"{trainer.step:012d}-{trainer.attempt:06d}"
            commit = CommitRef(id=name, step=trainer.step, time=START)
            self.volume.add(commit, trainer.commit)
            trainer.commit = commit
            trainer.watch.taken()
            trainer.watch.committed()
            self.volume.trained[trainer.attempt] = trainer.watch.read().committed
            self.beat(trainer)

    def complete(self, trainer: Trainer) -> None:
        """Train to the end."""
        self.train(trainer, TOTAL_STEPS)
        self.commit(trainer)
        if trainer.uid in self.trainers and not trainer.hung:
            self.volume.completed = True
            self.end(trainer, ExitCode.COMPLETED, Reason.COMPLETED)

    def end(self, trainer: Trainer, code: int, reason: Reason, oom: bool = False) -> None:
        """Exit, and say so in heartbeat and termination message as far as anybody listens."""
        final = None
        if not oom:
            spent = trainer.watch.read()
            final = FinalRecord(exit_code=code, reason=reason, message=f"{reason}", spent=spent)
        self.trainers.pop(trainer.uid, None)
        if trainer.node not in self.live_nodes:
            return
        if final and reason is not Reason.SUPERSEDED:
            self.beat(trainer, final)
        for pod in self.pods():
            if pod["metadata"]["uid"] == trainer.uid:
                self._exit(pod, code, final, "OOMKilled" if oom else "Error", trainer.started_at)

    def beat(self, trainer: Trainer, final: FinalRecord | None = None) -> None:
        """Renew the Lease, unless it is a newer attempt's or out of reach."""
        place = (LEASES.kind, NAMESPACE, JOB)
        if trainer.stuck or trainer.node not in self.live_nodes or place not in self.api.objects:
            return
        lease = self.api.objects[place]
        if lease["spec"].get("leaseTransitions", 0) > trainer.attempt:
            return
        beat = self._heartbeat_of(trainer, final)
        annotations = lease["metadata"].setdefault("annotations", {})
        if annotations.get(ANNOTATION_DUMP_STACKS) == beat.standstill:
            path = f"{self.uid}/stacks/{beat.standstill}.txt"
            trainer.stacks = StackDump(standstill=beat.standstill, path=path)
            beat = beat.model_copy(update={"stacks": trainer.stacks})
        spec = {
            "holderIdentity": trainer.uid,
            "leaseTransitions": trainer.attempt,
            "renewTime": str(self.time + self.clock_skew[trainer.node]),
        }
        text = beat.model_dump_json(by_alias=True)
        old = annotations.get(ANNOTATION_HEARTBEAT)

        def write(o: dict[str, Any]) -> None:
            o["spec"] = spec
            o["metadata"]["annotations"][ANNOTATION_HEARTBEAT] = text

        if old and _news(Heartbeat.model_validate_json(old)) == _news(beat):
            write(lease)
            self.watches.tell("update", LEASES.kind, lease)
        else:
            self.api.update(*place, write)

    def _heartbeat_of(self, trainer: Trainer, final: FinalRecord | None) -> Heartbeat:
        restored = trainer.restored
        phase = TrainerPhase.TRAINING if restored else TrainerPhase.STARTING
        return Heartbeat(
            attempt=trainer.attempt,
            phase=TrainerPhase.FINISHED if final else phase,
            position=Position(step=trainer.step if restored else 0, total_steps=TOTAL_STEPS),
            commit=trainer.commit if restored else None,
            started_from=trainer.started_from if restored else None,
            commits=[found.id for found in reversed(self.volume.commits[-10:])] if restored else [],
            restore=trainer.answer if restored else None,
            warning=trainer.warning,
            stacks=trainer.stacks,
            watchdog_path=f"{self.uid}/stacks/{trainer.attempt:06d}-stuck.txt",
            spent=trainer.watch.read(),
            final=final,
        )

    def _exit(
        self,
        pod: dict[str, Any],
        code: int,
        final: FinalRecord | None = None,
        reason: str = "Error",
        started_at: str | None = None,
    ) -> None:
        message = final.model_dump_json(by_alias=True) if final else ""
        state = {"exitCode": int(code), "reason": reason, "message": message}
        state["startedAt"] = started_at
        self._set_state(pod, "Succeeded" if code == 0 else "Failed", {"terminated": state})

    def _set_state(self, pod: dict[str, Any], phase: str, state: dict[str, Any]) -> None:
        fields = {"phase": phase, "containerStatuses": [{"name": "trainer", "state": state}]}
        self._update_pod(pod, lambda p: p.setdefault("status", {}).update(fields))

    def _update_pod(self, pod: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> None:
        self.api.update(PODS.kind, NAMESPACE, pod["metadata"]["name"], change)

    def go_back(self, commit: str | None) -> int:
        """Set spec.restore, or take it out; return the number of the request."""

        def change(job: dict[str, Any]) -> None:
            job["spec"].pop("restore", None)
            if commit:
                job["spec"]["restore"] = {"fromCommit": commit}

        generation: int = self.api.update(*JOB_PLACE, change)["metadata"]["generation"]
        return generation

    def delete_job(self, finalizer: str | None = None) -> None:
        """Delete the job: at once, or marked until its pods are gone, or somebody lets it go."""
        self.deleted = True
        if finalizer is None:
            self.api.remove(*JOB_PLACE)
            return

        def mark(job: dict[str, Any]) -> None:
            job["metadata"] |= {"deletionTimestamp": "now", "finalizers": [finalizer]}
            job["metadata"]["generation"] += 1

        self.api.update(*JOB_PLACE, mark)
        if finalizer == FOREGROUND:
            self.api.remove_owned(self.uid)

    @property
    def kept(self) -> bool:
        """Whether a finalizer of somebody else's keeps the job, which was deleted."""
        job = self.api.objects.get(JOB_PLACE)
        return job is not None and job["metadata"].get("finalizers") == [FOREIGN]

    def let_go(self) -> None:
        """Let the job go that a finalizer keeps."""
        if self.kept:
            self.api.remove(*JOB_PLACE)

    def set_run_policy(self, **fields: Any) -> None:
        """Change spec.runPolicy, as a user does."""
        self.api.update(*JOB_PLACE, lambda o: o["spec"]["runPolicy"].update(fields))

    def resume(self) -> None:
        """Let a job go on that rests, as a user does; any other is not touched."""
        job = self.api.objects.get(JOB_PLACE)
        if job and job["spec"]["runPolicy"].get("suspend"):
            self.set_run_policy(suspend=False)


def _news(beat: Heartbeat) -> Heartbeat:
    """Return what the operator is woken up for: time goes on in every beat."""
    return beat.model_copy(update={"spent": None})
