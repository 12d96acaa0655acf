"""Bugs, at least one for each promise of the model, which must find it.

Each is what a tired developer might write. Where a search would take long, the bug comes with a
history that leads to it, and which breaks no promise without the bug.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from rtj_api.failure import RuleAction
from rtj_api.heartbeat import Heartbeat
from rtj_api.names import Cause, Phase
from rtj_api.restore import RestoreRequest
from rtj_api.spec import JobSpec
from rtj_api.status import JobStatus, Restarts
from rtj_api.time_spent import TimeSpent
from rtj_operator import handlers, observe, passing_over, reconcile
from rtj_operator.cluster import PODS, ConflictError
from rtj_operator.core import (
    budget,
    decide,
    hang,
    judge,
    launch,
    liveness,
    plan,
    podspec,
    progress,
    regression,
    trainer_config,
    unstartable,
)
from rtj_operator.core.decision import Decision
from rtj_operator.core.observed import Job, Observed, Pod
from rtj_operator.parse import parse_pod
from rtj_operator.refusals import CREATION, Refusals

from tests.model.histories import History, Step, happens, history, while_it_runs
from tests.model.test_operator_model import EXITS, OPERATOR
from tests.model.volume import Volume
from tests.model.watches import KINDS
from tests.model.world import FOREIGN, NODE_NAMES

Patch = pytest.MonkeyPatch
Seed = Callable[[Patch], None]

FAILS, _, PREEMPTED, IGNORED, _ = EXITS


@dataclass(frozen=True)
class Bug:
    """A bug, the promise that finds it, and how to come to it other than by a search."""

    seed: Seed
    promise: str
    history: History | None = None


BUGS: dict[str, Bug] = {}


def breaks(promise: str, history: History | None = None) -> Callable[[Seed], Seed]:
    """Note a bug by its name, as one that breaks this promise."""

    def note(seed: Seed) -> Seed:
        BUGS[seed.__name__] = Bug(seed, promise, history)
        return seed

    return note


# Never two live attempts that can both commit; attempt numbers only grow.


@breaks("attempt_numbers_only_grow")
def the_next_attempt_takes_the_number_of_the_last(patch: Patch) -> None:
    patch.setattr(launch, "next_number", lambda plan: max(plan.newest_number, 1))


@breaks(
    "commits_form_one_lineage",
    history(
        while_it_runs("lose_node", node=NODE_NAMES[0], partition=True),
        happens("time_passes", seconds=40),
        while_it_runs("train", steps=5, commits=True),
    ),
)
def a_trainer_does_not_look_at_the_fence(patch: Patch) -> None:
    class Open(Volume):
        fences = property(lambda _: _NoFence(), lambda *_: None)  # type: ignore[assignment]

    patch.setattr("tests.model.world.Volume", Open)


class _NoFence(set[int]):
    def __iter__(self) -> Iterator[int]:
        return iter((0,))


@breaks(
    "one_request_goes_back_once_at_most",
    history(
        while_it_runs("go_back", which=1, calls=0, through=True),
        happens("set_suspend", suspend=True),
        happens("finish_deletions"),
        happens("set_suspend", suspend=False),
        while_it_runs("time_passes", seconds=1),
    ),
)
def each_change_of_the_spec_asks_to_go_back_again(patch: Patch) -> None:
    def request(job: Job) -> RestoreRequest | None:
        noted = job.status.restore
        return RestoreRequest(request=job.generation, commit=noted.from_commit) if noted else None

    patch.setattr(trainer_config, "_request", request)


BACKWARDS = "training_goes_backwards_only_if_somebody_asked_or_a_commit_is_damaged"


@breaks(BACKWARDS)
def a_trainer_that_finds_no_commit_starts_anew_without_a_word(patch: Patch) -> None:
    class Empty(Volume):
        newest = property(lambda _: None, lambda *_: None)  # type: ignore[assignment]

    patch.setattr("tests.model.world.Volume", Empty)


@breaks(
    BACKWARDS,
    history(
        while_it_runs("exit", how=PREEMPTED),
        while_it_runs("go_back", which=2, calls=0, through=True),
        while_it_runs("exit", how=PREEMPTED),
        while_it_runs("exit", how=PREEMPTED),
    ),
)
def each_attempt_is_asked_to_go_back_again(patch: Patch) -> None:
    def request(job: Job) -> RestoreRequest | None:
        noted, ended = job.status.restore, len(job.status.attempts)
        if noted is None:
            return None
        return RestoreRequest(request=noted.request + ended, commit=noted.from_commit)

    patch.setattr(trainer_config, "_request", request)


# Never a restart past a budget.


@breaks(
    "no_restart_goes_past_a_budget",
    history(
        happens("exit_again_and_again", how=FAILS, steps=6, times=3),
        happens("time_passes", seconds=40),
        happens("time_passes", seconds=40),
    ),
)
def one_failure_too_many_is_forgiven(patch: Patch) -> None:
    _with_limit(patch, "backoff_limit", "run_policy")


@breaks(
    "no_restart_goes_past_a_budget",
    history(
        happens("exit_again_and_again", how=PREEMPTED, steps=6, times=3),
        disruptions=1,
    ),
)
def one_disruption_too_many_is_forgiven(patch: Patch) -> None:
    _with_limit(patch, "max_disruption_restarts", "failure_policy")


def _with_limit(patch: Patch, field: str, policy: str) -> None:
    charge = budget.charge

    def lenient(restarts: Any, item: Any, spec: Any) -> Any:
        rules = getattr(spec, policy)
        limit = getattr(rules, field)
        if limit is not None:
            rules = rules.model_copy(update={field: limit + 1})
        return charge(restarts, item, spec.model_copy(update={policy: rules}))

    patch.setattr(decide, "charge", lenient)


@breaks(
    "no_restart_goes_past_a_budget",
    history(
        while_it_runs("exit", how=PREEMPTED),
        while_it_runs("time_passes", seconds=40),
        happens("exit", how=PREEMPTED),
        disruptions=1,
        window=60,
    ),
)
def the_window_is_half_as_long_as_it_says(patch: Patch) -> None:
    patch.setattr(budget, "timedelta", lambda seconds: timedelta(seconds=seconds / 2))


@breaks(
    "no_restart_goes_past_a_budget",
    history(
        while_it_runs("something_rare", kind="rule"),
        happens("time_passes", seconds=40),
        rules=True,
    ),
)
def a_rule_that_says_fail_is_passed_over(patch: Patch) -> None:
    ruling_on = decide.ruling_on

    def lenient(*args: Any) -> Any:
        ruling = ruling_on(*args)
        return None if ruling and ruling.action is RuleAction.FAIL else ruling

    patch.setattr(decide, "ruling_on", lenient)


@breaks(
    "no_restart_goes_past_a_budget",
    history(
        while_it_runs("something_rare", kind="refuse"),
        happens("time_passes", seconds=40),
    ),
)
def what_no_retry_can_help_is_tried_again(patch: Patch) -> None:
    _classify(patch, Cause.PERMANENT, Cause.USER_ERROR)


@breaks(
    "attempts_without_progress_have_an_end",
    history(happens("exit_again_and_again", how=PREEMPTED, steps=1, times=4), no_progress=2),
)
def one_attempt_too_many_makes_no_progress(patch: Patch) -> None:
    _with_limit(patch, "max_no_progress_restarts", "failure_policy")


@breaks(
    "attempts_without_progress_have_an_end",
    history(happens("exit_again_and_again", how=PREEMPTED, steps=1, times=4), no_progress=2),
)
def a_heartbeat_is_taken_for_progress(patch: Patch) -> None:
    patch.setattr(decide, "progressed", lambda beat, _: beat is not None)


@breaks(
    "who_failed_for_no_progress_made_none",
    history(
        happens("exit_again_and_again", how=PREEMPTED, steps=1, times=1),
        while_it_runs("set_suspend", suspend=True),
        happens("finish_deletions"),
        happens("set_suspend", suspend=False),
        happens("exit_again_and_again", how=PREEMPTED, steps=1, times=1),
        no_progress=2,
    ),
)
def the_commit_of_a_job_that_was_suspended_does_not_count(patch: Patch) -> None:
    original = budget.charge

    def careless(restarts: Restarts, item: budget.Charge, spec: JobSpec) -> budget.Bill:
        suspended = item.ending.cause is Cause.SUSPENDED
        return budget.Bill(restarts) if suspended else original(restarts, item, spec)

    patch.setattr(decide, "charge", careless)


@breaks("every_restart_is_counted_once", history(while_it_runs("exit", how=IGNORED), rules=True))
def a_restart_that_costs_nothing_is_not_counted(patch: Patch) -> None:
    patch.setattr(budget, "_ignore", lambda restarts, _: budget.Bill(restarts))


# Status tells the truth, and never goes backwards.


@breaks("all_time_is_accounted_for")
def the_pauses_between_attempts_are_forgotten(patch: Patch) -> None:
    accounted = plan.accounted

    def at_work(status: JobStatus, *rest: Any) -> dict[str, Any]:
        return accounted(status, *rest) if status.attempt else {}

    patch.setattr(plan, "accounted", at_work)


@breaks(
    "all_time_is_accounted_for",
    history(
        while_it_runs("time_passes", seconds=40),
        happens("a_clock_jumps", whose=OPERATOR, seconds=-90),
        happens("exit", how=PREEMPTED),
    ),
)
def time_goes_back_with_the_clock(patch: Patch) -> None:
    accounted = plan.accounted

    def by_the_clock(status: JobStatus, look: Observed, now: datetime, *ending: Any) -> Any:
        fields = accounted(status, look, now, *ending)
        if fields and now < status.start_time + timedelta(seconds=fields["time"].total):
            fields["time"] = TimeSpent()
        return fields

    patch.setattr(plan, "accounted", by_the_clock)


@breaks(
    "the_end_is_final",
    history(while_it_runs("something_rare", kind="refuse"), happens("set_suspend", suspend=True)),
)
def a_changed_spec_revives_a_failed_job(patch: Patch) -> None:
    def revived(look: Observed) -> Observed:
        status = look.job.status
        if status.phase.final and status.observed_generation != look.job.generation:
            new = {"phase": Phase.RESTARTING, "completion_time": None}
            return replace(look, job=replace(look.job, status=status.model_copy(update=new)))
        return look

    _decide_on(patch, revived)


def _decide_on(patch: Patch, seen: Callable[[Observed], Observed]) -> None:
    """Let the operator decide on something else than what it observed."""
    decided = decide.decide
    patch.setattr(reconcile, "decide", lambda look, now: decided(seen(look), now))


@breaks("status_never_goes_backwards")
def each_attempt_starts_the_job_anew(patch: Patch) -> None:
    def started_anew(draft: plan.Plan, *rest: Any) -> None:
        launch.launch(draft, *rest)
        if draft.status.attempt:
            draft.update(start_time=draft.status.attempt.decided_time)

    patch.setattr(decide, "launch", started_anew)


WITH_A_WORD = "the_newest_commit_goes_back_only_with_a_word"


@breaks(
    WITH_A_WORD,
    history(
        while_it_runs("exit", how=PREEMPTED),
        while_it_runs("the_newest_commit_is_damaged"),
        happens("exit", how=PREEMPTED),
        while_it_runs("time_passes", seconds=14),
    ),
)
def it_is_left_to_the_trainer_to_tell_of_a_damaged_commit(patch: Patch) -> None:
    patch.setattr(regression, "show", lambda *_: None)


@breaks(
    WITH_A_WORD,
    history(while_it_runs("train", steps=5, commits=True), happens("time_passes", seconds=14)),
)
def a_commit_of_its_own_is_taken_for_one_that_was_lost(patch: Patch) -> None:
    def lost_step(status: JobStatus, beat: Heartbeat) -> int | None:
        first = beat.started_from.step if beat.started_from else 0
        newest = status.last_commit.step if status.last_commit else 0
        return newest if first < newest else None

    patch.setattr(regression, "lost_step", lost_step)


@breaks(
    WITH_A_WORD,
    history(
        while_it_runs("exit", how=PREEMPTED),
        while_it_runs("go_back", which=2, calls=0, through=True),
    ),
)
def to_go_back_on_purpose_is_called_a_loss(patch: Patch) -> None:
    lost_step = regression.lost_step

    def unasked(status: JobStatus, beat: Heartbeat) -> int | None:
        return lost_step(status, beat.model_copy(update={"restore": None}))

    patch.setattr(regression, "lost_step", unasked)


@breaks("the_position_is_never_before_the_newest_commit")
def a_trainer_that_starts_moves_the_position_to_zero(patch: Patch) -> None:
    patch.setattr(progress, "is_training", lambda _: True)


@breaks("the_position_is_never_before_the_newest_commit")
def a_commit_is_told_without_the_position(patch: Patch) -> None:
    mirrored_fields = decide.mirrored_fields

    def only_once(beat: Any, status: JobStatus, *rest: Any) -> dict[str, Any]:
        fields = mirrored_fields(beat, status, *rest)
        return fields | {"position": status.position or fields.get("position")}

    patch.setattr(decide, "mirrored_fields", only_once)


@breaks("completed_means_trained_to_the_end")
def a_trainer_that_was_asked_to_stop_has_completed(patch: Patch) -> None:
    _classify(patch, Cause.PREEMPTED, Cause.COMPLETED)


def _classify(patch: Patch, cause: Cause, wrong: Cause) -> None:
    classify = judge.classify

    def mistaken(*args: Any, **kwargs: Any) -> Any:
        ending = classify(*args, **kwargs)
        return replace(ending, cause=wrong) if ending.cause is cause else ending

    patch.setattr(judge, "classify", mistaken)


# The healthy are spared, the hung are asked, and the dead are replaced.


@breaks(
    "nobody_healthy_was_ended",
    history(
        while_it_runs("time_passes", seconds=14),
        happens("hang", after=30, stuck=True),
    ),
)
def a_silent_trainer_is_taken_for_a_dead_node(patch: Patch) -> None:
    def dead(look: Observed, pod: Pod) -> bool:
        return bool(pod.node) and look.silence.heartbeat >= look.settings.node_silence

    patch.setattr(liveness, "node_is_dead", dead)


@breaks("nobody_healthy_was_ended", history(while_it_runs("time_passes", seconds=40)))
def a_trainer_hangs_after_half_its_time(patch: Patch) -> None:
    timeout_of = hang.timeout_of
    patch.setattr(hang, "timeout_of", lambda *args: timeout_of(*args) // 2)


@breaks("whoever_hung_was_asked_where", history(while_it_runs("hang", after=70, stuck=False)))
def a_hung_trainer_is_not_asked(patch: Patch) -> None:
    patch.setattr(hang, "until_replaced", lambda *_: 0.0)


@breaks("a_lost_attempt_is_replaced")
def a_dead_node_is_waited_for_twice_as_long(patch: Patch) -> None:
    node_is_dead = liveness.node_is_dead

    def dead(look: Observed, pod: Pod) -> bool:
        settings = replace(look.settings, node_silence=2 * look.settings.node_silence)
        return node_is_dead(replace(look, settings=settings), pod)

    patch.setattr(liveness, "node_is_dead", dead)


@breaks("what_cannot_start_is_given_up")
def each_wording_of_the_kubelet_starts_the_wait_anew(patch: Patch) -> None:
    def reason(pod: Pod) -> str:
        return pod.waiting.reason if pod.waiting and unstartable.cannot_start(pod) else ""

    patch.setattr(observe, "cannot_start", reason)


# Every action may be repeated; the decision is written before it is acted on.


@breaks("every_pod_was_decided_before", history(happens("schedule")))
def a_pods_name_differs_each_time(patch: Patch) -> None:
    names = iter(range(10**9))
    patch.setattr(launch, "pod_manifest", lambda *rest: _named(podspec.pod_manifest(*rest), names))


def _named(pod: dict[str, Any], names: Iterator[int]) -> dict[str, Any]:
    pod["metadata"]["name"] += f"-{next(names)}"
    return pod


@breaks(
    "every_pod_was_decided_before",
    history(
        while_it_runs("exit", how=PREEMPTED, lags=True),
        happens("somebody_else_writes"),
    ),
)
def a_conflict_is_passed_over(patch: Patch) -> None:
    write = reconcile.Reconciler._write

    async def careless(*args: Any) -> None:
        with contextlib.suppress(ConflictError):
            await write(*args)

    patch.setattr(reconcile.Reconciler, "_write", careless)


@breaks(
    "what_could_begin_is_not_made_again",
    history(happens("schedule"), happens("remove_pod_objects")),
)
def what_was_not_written_down_is_taken_for_never_made(patch: Patch) -> None:
    def absent(look: Observed) -> bool:
        attempt = look.job.status.attempt
        return look.pod is None and look.beat is None and not (attempt and attempt.pod_uid)

    patch.setattr(Observed, "absent", property(absent))


@breaks("a_look_at_nothing_new_writes_nothing", history(happens("a_stale_event_comes_again")))
def each_look_writes(patch: Patch) -> None:
    decided = decide.decide

    def restless(look: Observed, now: datetime) -> Decision:
        decision = decided(look, now)
        another = "1%" if decision.status.progress != "1%" else "2%"
        status = decision.status.model_copy(update={"progress": another})
        return replace(decision, status=status)

    patch.setattr(reconcile, "decide", restless)


@breaks(
    "nothing_is_made_for_a_deleted_job",
    history(
        while_it_runs("delete_the_job", how="slowly", finalizer=FOREIGN, calls=2),
        happens("exit", how=PREEMPTED),
    ),
)
def a_job_that_is_being_deleted_goes_on(patch: Patch) -> None:
    _decide_on(patch, lambda look: replace(look, job=replace(look.job, deleting=False)))


@breaks(
    "a_deleted_job_is_seen_to_its_end",
    history(while_it_runs("delete_the_job", how="slowly", finalizer=FOREIGN, calls=2)),
)
def a_job_that_is_being_deleted_is_left_alone(patch: Patch) -> None:
    _decide_on(patch, lambda look: replace(look, job=replace(look.job, orphans=look.job.deleting)))


# What the watches tell is acted on, though not every event needs a look.


def _heard_of(what: Step) -> History:
    """Return that it happens to a job that runs, and is looked for before it is due."""
    return history(
        while_it_runs("time_passes", seconds=5), what, happens("the_operator_looks_early")
    )


@breaks(
    "what_was_heard_was_acted_on",
    _heard_of(happens("remove_pod_objects")),
)
def a_pod_that_ran_goes_unnoticed(patch: Patch) -> None:
    _pass_over(patch, "pod", lambda kind, _: kind == "DELETED")


@breaks(
    "what_was_heard_was_acted_on",
    _heard_of(happens("set_suspend", suspend=True)),
)
def a_changed_spec_is_taken_for_our_own_write(patch: Patch) -> None:
    _pass_over(patch, "job", lambda kind, _: kind == "MODIFIED")


@breaks(
    "what_was_heard_was_acted_on",
    _heard_of(happens("exit", how=PREEMPTED)),
)
def an_exit_is_no_news_of_a_pod_that_was_running(patch: Patch) -> None:
    _pass_over(patch, "pod", lambda _, body: bool(parse_pod(body).exit))


@breaks(
    "what_was_heard_was_acted_on",
    history(
        while_it_runs("operator_is_killed", calls=1),
        happens("exit", how=PREEMPTED),
        happens("the_operator_looks_early"),
    ),
)
def a_new_leader_asks_for_nothing(patch: Patch) -> None:
    patch.setattr(handlers.Handlers, "lead", lambda _: None)


@breaks(
    "what_was_heard_was_acted_on",
    history(
        while_it_runs("set_suspend", suspend=True),
        happens("finish_deletions"),
        happens("the_watches_lag", kinds={PODS.kind}),
        happens("set_suspend", suspend=False),
        happens("remove_pod_objects"),
        happens("the_watches_go_on", how="anew", kinds=[*KINDS]),
        happens("the_operator_looks_early"),
    ),
)
def a_pod_that_came_and_went_between_two_lists_is_waited_for(patch: Patch) -> None:
    patch.setattr(handlers.Handlers, "pods_listed", lambda _: None)


def _pass_over(patch: Patch, watch: str, drops: Callable[[str | None, Any], bool]) -> None:
    """Let a handler do nothing about some events."""
    original = getattr(handlers.Handlers, watch)

    def deaf(self: handlers.Handlers, kind: str | None, body: Any) -> None:
        if not drops(kind, body):
            original(self, kind, body)

    patch.setattr(handlers.Handlers, watch, deaf)


# It always comes to rest, and the job to its end.


@breaks("the_operator_comes_to_rest")
def a_timer_is_due_at_once(patch: Patch) -> None:
    decided = decide.decide
    patch.setattr(reconcile, "decide", lambda *args: replace(decided(*args), requeue_after=0.0))


@breaks("a_job_at_rest_has_a_deadline_or_a_reason")
def nobody_looks_again_at_a_job_that_runs(patch: Patch) -> None:
    patch.setattr(plan.Plan, "wake", lambda *_: None)


@breaks("a_job_at_rest_has_a_deadline_or_a_reason")
def a_pause_has_no_timer(patch: Patch) -> None:
    def without(draft: plan.Plan, *rest: Any) -> None:
        due = draft.status.next_attempt_time
        if due is None or due <= draft.now:
            launch.launch(draft, *rest)

    patch.setattr(decide, "launch", without)


@breaks("every_job_comes_to_its_end", history(while_it_runs("hang", after=30, stuck=False)))
def nobody_hangs(patch: Patch) -> None:
    patch.setattr(hang, "until_hung", lambda *_: math.inf)


@breaks(
    "every_job_comes_to_its_end",
    history(happens("set_quota", refuse=True), while_it_runs("exit", how=PREEMPTED)),
)
def a_pod_that_was_refused_is_never_tried_again(patch: Patch) -> None:
    refused = Refusals.refused

    def for_ever(refusals: Refusals, *args: Any) -> float:
        delay = refused(refusals, *args)
        refusals._refused[args[0]][CREATION].until = math.inf
        return delay

    patch.setattr(Refusals, "refused", for_ever)


@breaks(
    "every_job_comes_to_its_end",
    history(
        *[happens("time_passes", seconds=40)] * 9,  # All that a wait leads to has been written.
        happens("the_watches_lag", kinds={PODS.kind}),
        happens("remove_pod_objects"),
        happens("the_watches_go_on", how="with a loss", kinds=[*KINDS]),
    ),
)
def the_watches_are_believed_for_ever(patch: Patch) -> None:
    patch.setattr(reconcile, "LONGEST_TIME_BETWEEN_LOOKS", math.inf)


@breaks(
    "no_pod_is_left_over",
    history(
        while_it_runs("hang", after=30, stuck=True),
        happens("lose_node", node=NODE_NAMES[0], partition=True),
        happens("time_passes", seconds=40),
    ),
)
def nobody_sweeps(patch: Patch) -> None:
    patch.setattr(decide, "_sweep", lambda _: None)


@breaks(
    "no_pod_is_left_over",
    history(
        *[while_it_runs("time_passes", seconds=40)] * 7,
        while_it_runs("hang", after=5, stuck=False),
        happens("operator_is_killed_as_time_passes", calls=4, seconds=40),
        deadline=300,
    ),
)
def a_finished_job_rests_whatever_pods_it_has(patch: Patch) -> None:
    patch.setattr(passing_over, "_left_a_pod", lambda *_: False)
