"""Whatever happens, in whatever order, the operator keeps its promises and the job gets its end.

Hypothesis plays the world: it schedules, trains, evicts, kills nodes and kills the operator between
any two of its calls. The operator under test is the real loop over an API server in memory.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from rtj_api.names import ExitCode, Reason
from rtj_operator.cluster import PODS

from tests.model.budgets import FAILED, IGNORED, RECREATED, RULES
from tests.model.promises import BACKOFF_LIMIT, Promises, number
from tests.model.watches import KINDS
from tests.model.world import FOREGROUND, FOREIGN, JOB_PLACE, NAMESPACE, NODE_NAMES, Trainer, World

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Exit:
    """A way in which a trainer ends."""

    code: int
    reason: Reason
    oom: bool = False


EXITS = [
    Exit(ExitCode.USER_ERROR, Reason.TRAINER_FAILED),
    Exit(137, Reason.TRAINER_FAILED, oom=True),
    Exit(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED),
    Exit(IGNORED, Reason.TRAINER_FAILED),
    Exit(RECREATED, Reason.TRAINER_FAILED),
]

CANNOT_START_SECONDS = 20
OPERATOR = "operator"
REPLACED_WITHIN_SECONDS = 15.0
Step = Callable[..., None]


def happens(**draws: st.SearchStrategy[object]) -> Callable[[Step], Step]:
    """Make a rule that often finds the job running, and after which the operator mostly works."""

    def decorate(step: Step) -> Step:
        @functools.wraps(step)
        def in_context(
            self: "OperatorMachine", *, steps_before: int, lags: bool, **drawn: object
        ) -> None:
            if steps_before:
                self.run_well(steps_before)
            step(self, **drawn)
            if not lags:
                self.world.work()

        steps = st.sampled_from([0, 0, 1, 6])
        return rule(steps_before=steps, lags=st.booleans(), **draws)(in_context)

    return decorate


class OperatorMachine(Promises):
    """One job on two nodes."""

    @initialize(
        deadline=st.sampled_from([None, None, None, 300]),
        no_progress=st.sampled_from([2, 100, 100]),
        disruptions=st.sampled_from([None, None, 1, 2]),
        window=st.sampled_from([None, 60, 60]),
        rules=st.booleans(),
    )
    def start(
        self,
        deadline: int | None,
        no_progress: int,
        disruptions: int | None,
        window: int | None,
        rules: bool,
    ) -> None:
        policy: dict[str, object] = {"backoffLimit": BACKOFF_LIMIT}
        if deadline:
            policy["activeDeadlineSeconds"] = deadline
        self.no_progress, self.disruptions = no_progress, disruptions
        self.window, self.has_rules = window, rules
        chosen = {
            "maxDisruptionRestarts": disruptions,
            "windowSeconds": window,
            "rules": RULES if rules else None,
        }
        failure_policy: dict[str, object] = {"cannotStartTimeoutSeconds": CANNOT_START_SECONDS}
        failure_policy |= {name: value for name, value in chosen.items() if value is not None}
        self.world = World(policy, no_progress, failure_policy)
        self.world.slow_start = True
        self.requests: dict[int, str | None] = {}
        self.wanted: str | None = None
        self.world.work()
        self.checked = 0

    # The world goes its way.

    def run_well(self, steps: int) -> None:
        """Let the pod start, take some steps, and commit all but the first."""
        self.world.work()
        if self.world.status().next_attempt_time:
            self.world.advance(31)
        self.world.schedule()
        self.world.start_containers()
        self.world.work()
        for trainer in self._trainers():
            self.world.train(trainer, steps)
            if steps > 1:
                self.world.commit(trainer)

    @happens()
    def schedule(self) -> None:
        self.world.schedule()

    @happens()
    def start_containers(self) -> None:
        self.world.start_containers()

    @happens(steps=st.integers(1, 15), commits=st.booleans())
    def train(self, steps: int, commits: bool) -> None:
        """All go on, also those that are cut off and have a successor."""
        for trainer in self._trainers():
            self.world.train(trainer, steps)
            if commits:
                self.world.commit(trainer)

    @happens()
    def finish_deletions(self) -> None:
        self.world.finish_deletions()

    @happens(how=st.sampled_from(EXITS))
    def exit(self, how: Exit) -> None:
        for trainer in self._trainers()[:1]:
            self.world.end(trainer, how.code, how.reason, oom=how.oom)

    @happens(after=st.sampled_from([30, 70]), stuck=st.booleans())
    def hang(self, after: int, stuck: bool) -> None:
        for trainer in self._trainers():
            trainer.hung = True
            trainer.stuck = trainer.stuck or stuck
        self.world.advance(after)

    @happens(kind=st.sampled_from(["complete", "refuse", "rule", "none", "none"]))
    def something_rare(self, kind: str) -> None:
        for trainer in self._trainers():
            if kind == "complete":
                self.world.complete(trainer)
            elif kind == "refuse":
                self.world.end(trainer, ExitCode.PERMANENT, Reason.FINGERPRINT_MISMATCH)
            elif kind == "rule":
                self.world.end(trainer, FAILED, Reason.TRAINER_FAILED)

    @happens(evicted=st.booleans(), gracefully=st.booleans())
    def take_the_pod_away(self, evicted: bool, gracefully: bool) -> None:
        for pod in self.world.pods():
            if evicted:
                self.world.evict(pod)
            else:
                self.world.api.delete_pod(NAMESPACE, pod["metadata"]["name"])
        if gracefully:
            self.world.finish_deletions()

    @happens(how=st.sampled_from(EXITS), steps=st.sampled_from([1, 6]), times=st.integers(3, 4))
    def exit_again_and_again(self, how: Exit, steps: int, times: int) -> None:
        for _ in range(times):
            self.run_well(steps)
            for trainer in self._trainers()[:1]:
                self.world.end(trainer, how.code, how.reason, oom=how.oom)

    @happens()
    def remove_pod_objects(self) -> None:
        self._remove_pods()

    def _remove_pods(self) -> None:
        for pod in self.world.pods():
            self.world.trainers.pop(pod["metadata"]["uid"], None)
            self.world.api.remove(PODS.kind, NAMESPACE, pod["metadata"]["name"])

    @happens(node=st.sampled_from(NODE_NAMES), partition=st.booleans())
    def lose_node(self, node: str, partition: bool) -> None:
        self.lose(node, partition)

    @happens(partition=st.booleans())
    def a_dead_node_is_answered_in_time(self, partition: bool) -> None:
        self.world.api.fail_next, self.world.api.conflict_next = 0, False
        if not self._trainers():
            return
        self.world.work()
        before = self.world.status()
        trainer = self._trainers()[-1]
        current = before.attempt and before.attempt.number == trainer.attempt
        if self.world.deleted or not current or trainer.node not in self.world.live_nodes:
            return
        self.lose(trainer.node, partition)
        self.world.advance(REPLACED_WITHIN_SECONDS)
        self.a_lost_attempt_is_replaced(trainer.attempt)

    def lose(self, node: str, partition: bool) -> None:
        """Cut a node off, with or without the trainers on it."""
        (self.world.partition_node if partition else self.world.kill_node)(node)

    @happens(seconds=st.sampled_from([5, 5, CANNOT_START_SECONDS + 5]))
    def images_cannot_be_pulled(self, seconds: int) -> None:
        self.world.api.fail_next, self.world.api.conflict_next = 0, False
        self._remove_pods()
        self.world.work()
        self.world.schedule()
        before = self.world.status().attempt
        for second in range(seconds):
            reason = "ImagePullBackOff" if second % 10 else "ErrImagePull"
            self.world.fail_image_pulls(reason)
            self.world.advance(1)
        if seconds > CANNOT_START_SECONDS and before:
            self.what_cannot_start_is_given_up(before.pod_name)

    @happens(node=st.sampled_from(NODE_NAMES))
    def revive_node(self, node: str) -> None:
        self.world.revive_node(node)

    @happens(suspend=st.sampled_from([True, False, False]))
    def set_suspend(self, suspend: bool) -> None:
        if JOB_PLACE in self.world.api.objects:
            self.world.set_run_policy(suspend=suspend)

    @happens(
        which=st.sampled_from([0, 1, 2, 2, 3]),
        calls=st.sampled_from([0, 0, 1, 2, 3, 5, 8, 13]),
        through=st.booleans(),
    )
    def go_back(self, which: int, calls: int, through: bool) -> None:
        """Ask for an older commit, for one that never was, or no more; the operator may die."""
        if not self.world.volume.commits:
            self.run_well(6)
        if self.world.status().phase.final or self.world.deleted:
            return  # The API server refuses it.
        there = [commit.id for commit in self.world.volume.commits]
        chosen = there[-which] if 0 < which <= len(there) else None
        wanted = chosen or ("000000000099-000001" if which == 3 else None)
        if wanted != self.wanted:
            self.requests[self.world.go_back(wanted)] = wanted
            self.wanted = wanted
        self.world.api.kill_in = calls or None
        self.world.turn()
        self.world.api.kill_in = None
        if through:
            self.world.work()
            self.world.finish_deletions()
            self.run_well(6)

    @happens()
    def the_newest_commit_is_damaged(self) -> None:
        """Whoever trains goes on; the next attempt falls back to the commit before."""
        self.world.volume.damage()

    @happens(refuse=st.sampled_from([True, False, False]))
    def set_quota(self, refuse: bool) -> None:
        self.world.api.refuse_pods = refuse

    @happens(seconds=st.sampled_from([1, 5, 14, 40]))
    def time_passes(self, seconds: int) -> None:
        self.world.advance(seconds)

    @happens(
        whose=st.sampled_from([OPERATOR, *NODE_NAMES]),
        seconds=st.sampled_from([0, 0, 45, -45, 600, -600]),
    )
    def a_clock_jumps(self, whose: str, seconds: int) -> None:
        """The wall clock of one machine; nobody's monotonic clock does."""
        if whose == OPERATOR:
            self.world.jump(seconds)
        else:
            self.world.clock_skew[whose] = seconds

    @happens(
        how=st.sampled_from(["not at all"] * 9 + ["at once", "slowly", "in between"]),
        finalizer=st.sampled_from([FOREGROUND, FOREIGN]),
        calls=st.integers(2, 14),
    )
    def delete_the_job(self, how: str, finalizer: str, calls: int) -> None:
        """A user deletes it, at times between two calls of the operator; or it is kept a while."""
        if how == "not at all" or self.world.deleted:
            return
        delete = partial(self.world.delete_job, finalizer if how == "slowly" else None)
        if how == "in between":
            self.world.api.meanwhile = (calls, delete)
            self.world.turn()
            self.world.api.meanwhile = None
        else:
            delete()

    # The operator suffers.

    @happens()
    def a_stale_event_comes_again(self) -> None:
        """Once the operator has heard of what it did, another look changes nothing."""
        api = self.world.api
        healthy = not api.fail_next and not api.conflict_next and not self.world.behind
        self.world.turn()
        self.world.work()
        before = len(api.writes)
        self.world.turn()
        if healthy:
            self.a_look_at_nothing_new_writes_nothing(before)

    @happens()
    def the_operator_looks_early(self) -> None:
        """Whoever has heard everything, and works when it is due, has nothing to do before."""
        self.world.api.fail_next, self.world.api.conflict_next = 0, False
        self.world.advance(1)  # What failed is tried again.
        before, attempt = len(self.world.api.writes), number(self.world.status())
        knows_all = not (self.world.watches.lossy or self.world.jumped)
        self.world.look_early()
        if knows_all:
            self.what_was_heard_was_acted_on(before, attempt)

    @happens(kinds=st.sets(st.sampled_from(KINDS), min_size=1))
    def the_watches_lag(self, kinds: set[str]) -> None:
        """Until they catch up, the operator hears of nothing that happens to these kinds."""
        self.world.watches.lagging |= kinds

    @happens(seconds=st.sampled_from([5, 14, 40]))
    def time_passes_unheard(self, seconds: int) -> None:
        """The watches that lag are still behind after it."""
        self.world.pass_time(seconds)

    @happens(
        how=st.sampled_from(["reordered", "anew", "with a loss", "again", "a little"]),
        kinds=st.permutations(KINDS),
    )
    def the_watches_go_on(self, how: str, kinds: list[str]) -> None:
        """Each in its own order, one after the other; or anew, even so that a deletion is lost.

        One that goes on a little still lags behind.
        """
        if how in ("anew", "with a loss"):
            self.world.list_anew(loses=how == "with a loss")
            return
        for kind in kinds:
            if how == "a little":
                self.world.watches.tell_oldest(kind)
            else:
                self.world.catch_up([kind])
            self.world.work()
        if how == "again":
            self.world.hear_again(kinds[0])

    @happens(calls=st.integers(1, 14))
    def operator_is_killed(self, calls: int) -> None:
        self.world.api.kill_in = calls
        self.world.turn()
        self.world.api.kill_in = None

    @happens(calls=st.integers(1, 14), seconds=st.sampled_from([14, 40]))
    def operator_is_killed_as_time_passes(self, calls: int, seconds: int) -> None:
        """At a call of what it does without having heard anything."""
        self.world.api.kill_in = calls
        self.world.advance(seconds)
        self.world.api.kill_in = None

    @happens()
    def somebody_else_writes(self) -> None:
        self.world.api.conflict_next = True

    @happens(calls=st.integers(1, 3))
    def api_server_fails(self, calls: int) -> None:
        self.world.api.fail_next = calls

    def teardown(self) -> None:
        """Leave the world in peace: the job must come to its end, and no pod may be left over."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.api.refuse_pods = world.api.conflict_next = False
        world.api.fail_next = 0
        for node in NODE_NAMES:
            world.revive_node(node)
        world.resume()
        for _ in range(60):
            world.advance(20)
            world.finish_deletions()
            world.schedule()
            world.start_containers()
            for trainer in self._trainers():
                if not trainer.hung:
                    world.complete(trainer)
            world.work()
            if (world.status().phase.final or world.deleted) and not world.trainers:
                break
        self.every_job_comes_to_its_end()
        world.advance(60)
        world.finish_deletions()
        world.work()
        self.a_deleted_job_is_seen_to_its_end()
        world.let_go()
        world.finish_deletions()
        world.work()
        self.no_pod_is_left_over()
        world.close()

    def _trainers(self) -> list[Trainer]:
        return list(self.world.trainers.values())


TestOperator = OperatorMachine.TestCase
TestOperator.settings = settings(
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
