"""What the operator promises, whatever happens to it and to the job."""

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant
from rtj_api.names import Cause, Condition, Phase, Reason
from rtj_api.status import JobStatus
from rtj_operator.cluster import EVENTS, JOBS
from rtj_operator.core.conditions import find

from tests.model.accounts import check_kinds, check_past, check_total
from tests.model.budgets import (
    Price,
    check_counters,
    check_no_progress,
    check_progress,
    check_restarts,
    history,
    idle_attempts,
)
from tests.model.promise import promise
from tests.model.world import World

BACKOFF_LIMIT = 2


def always(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make a promise that must hold after each step."""
    return invariant()(promise(check))


class Promises(RuleBasedStateMachine):
    """One job in its world, and what is checked of it after each step."""

    world: World
    no_progress: int
    disruptions: int | None
    window: int | None
    has_rules: bool
    """Whether the job has the rules of `tests.model.budgets`."""
    requests: dict[int, str | None]
    """By number, the commits that somebody asked to go back to."""
    checked: int
    """So many statuses were looked at already."""

    @always
    def attempt_numbers_only_grow(self) -> None:
        newest = 0
        for status in self.world.statuses:
            numbers = [ended.number for ended in status.attempts]
            if status.attempt:
                numbers.append(status.attempt.number)
            assert numbers == sorted(set(numbers))
            if numbers:
                assert numbers[-1] >= newest
                newest = numbers[-1]
        pods = [pod["metadata"]["name"] for pod in self.world.pods()]
        assert len(pods) == len(set(pods))

    @always
    def commits_form_one_lineage(self) -> None:
        ids = [commit.id for commit in self.world.volume.commits]
        attempts = [int(name.rsplit("-", 1)[1]) for name in ids]
        assert attempts == sorted(attempts)
        assert len(ids) == len(set(ids))

    @always
    def one_request_goes_back_once_at_most(self) -> None:
        honoured = []
        for number, commit in self.world.volume.went_back:
            # A request may be noticed late, and then has the number of a later change.
            made = [request for request in self.requests if request <= number]
            assert made, "nobody asked"
            honoured.append(max(made))
            assert self.requests[honoured[-1]] == commit
        assert len(honoured) == len(set(honoured))

    @always
    def training_goes_backwards_only_if_somebody_asked_or_a_commit_is_damaged(self) -> None:
        steps = [commit.step for commit in self.world.volume.commits]
        falls = sum(later <= earlier for earlier, later in itertools.pairwise(steps))
        asked = sum(commit is not None for commit in self.requests.values())
        assert falls <= asked + len(self.world.volume.damaged)

    @always
    def no_restart_goes_past_a_budget(self) -> None:
        ended = history(self.world.statuses)
        limits = {Price.FAILURE: BACKOFF_LIMIT, Price.DISRUPTION: self.disruptions}
        check_restarts(ended, newest(self.world), self.has_rules, limits, self.window)

    @always
    def attempts_without_progress_have_an_end(self) -> None:
        ended = history(self.world.statuses)
        trained = {int(commit.id.rsplit("-", 1)[1]) for commit in self.world.volume.commits}
        idle = idle_attempts(ended, self.world.volume.fences - trained)
        check_progress(ended, newest(self.world), idle, self.has_rules, self.no_progress)

    @always
    def who_failed_for_no_progress_made_none(self) -> None:
        statuses = self.world.statuses
        end = next((i for i, status in enumerate(statuses) if status.phase.final), None)
        # What a trainer commits after the end nobody could know of.
        if end is not None and Reason.NO_PROGRESS in {c.reason for c in statuses[end].conditions}:
            check_no_progress(history(statuses[: end + 1]), self.has_rules, self.no_progress)

    @always
    def every_restart_is_counted_once(self) -> None:
        if self.world.statuses and not self.world.statuses[-1].phase.final:
            ended = history(self.world.statuses)
            check_counters(ended, self.world.statuses[-1].restarts, self.has_rules)

    @always
    def all_time_is_accounted_for(self) -> None:
        statuses = self.world.statuses
        for index in range(self.checked, len(statuses)):
            before, after = statuses[index - 1] if index else JobStatus(), statuses[index]
            check_total(before, after, self.world.written_at[index])
            check_kinds(after, self.world.volume.trained, lasting=not self.world.set_back)
            check_past(before, after)
        self.checked = len(statuses)

    @always
    def the_end_is_final(self) -> None:
        ends = [s for s in self.world.statuses if s.phase.final]
        if not ends:
            return
        first = self.world.statuses.index(ends[0])
        for status in self.world.statuses[first:]:
            assert status.phase is ends[0].phase
            assert status.completion_time == ends[0].completion_time
            assert status.attempt is None

    @always
    def status_never_goes_backwards(self) -> None:
        for before, after in itertools.pairwise(self.world.statuses):
            grown = zip(counters(before), counters(after), strict=True)
            assert all(old <= new for old, new in grown), (before, after)
            assert before.start_time in (None, after.start_time)
            trained = before.attempt and before.attempt.running_time
            if trained and number(before) == number(after) and before.position:
                assert after.position
                assert before.position.step <= after.position.step

    @always
    def the_newest_commit_goes_back_only_with_a_word(self) -> None:
        """Or for a request. The word is said once of an attempt, and of no request that counts."""
        silent = set()
        for before, after in itertools.pairwise([JobStatus(), *self.world.statuses]):
            lost = lost_step(before, after)
            if lost is not None and not says_it_lost(after, lost):
                silent.add(newest_number(after))
        assert len(silent) <= len(self.world.volume.went_back), silent
        words = [word.split(",")[0] for word in self.world.events(Reason.POSITION_REGRESSED)]
        assert len(words) == len(set(words))
        # An attempt may go back for a request that is taken out before it can say so.
        withdrawn = max(len(self.requests) - 1, 0)
        assert len(words) <= len(self.world.volume.damaged) + withdrawn, words

    @always
    def the_position_is_never_before_the_newest_commit(self) -> None:
        for status in self.world.statuses[-1:]:
            if status.position and status.last_commit:
                assert status.position.step >= status.last_commit.step, status

    @always
    def a_job_at_rest_has_a_deadline_or_a_reason(self) -> None:
        status = self.world.status()
        if not self.world.statuses or status.phase.final or self.world.deleted:
            return
        running = find(status.conditions, Condition.RUNNING)
        assert running
        assert running.message
        backs_off = status.next_attempt_time and status.phase is not Phase.SUSPENDED
        if running.status == "True" or backs_off:
            assert self.world.due is not None, status

    @always
    def nobody_healthy_was_ended(self) -> None:
        assert self.world.wrongly_ended == []

    @always
    def whoever_hung_was_asked_where(self) -> None:
        ended = self.world.statuses[-1].attempts if self.world.statuses else []
        hung = {attempt.number for attempt in ended if attempt.cause is Cause.HUNG}
        assert hung <= self.world.asked

    @always
    def completed_means_trained_to_the_end(self) -> None:
        if self.world.statuses and self.world.statuses[-1].phase is Phase.COMPLETED:
            assert self.world.volume.completed
            assert self.world.statuses[-1].attempts[-1].cause is Cause.COMPLETED

    @always
    def every_pod_was_decided_before(self) -> None:
        assert self.world.undecided_pods == []

    @always
    def what_could_begin_is_not_made_again(self) -> None:
        """An attempt takes its fence once: a second pod of it could only make room."""
        assert self.world.made_again == []

    @always
    def nothing_is_made_for_a_deleted_job(self) -> None:
        written = self.world.written_after_deletion
        made = [write for write in written if write[0] == "create" and write[1] != EVENTS.kind]
        assert made == []

    # What must hold once something has been done.

    @promise
    def a_lost_attempt_is_replaced(self, attempt: int) -> None:
        status = self.world.status()
        assert status.attempt is None or status.attempt.number > attempt, status

    @promise
    def what_cannot_start_is_given_up(self, pod: str) -> None:
        if pod in [found["metadata"]["name"] for found in self.world.pods_to_start()]:
            assert self.world.status().phase.final, f"{pod} still waits: {self.world.status()}"

    @promise
    def a_look_at_nothing_new_writes_nothing(self, writes_before: int) -> None:
        assert self.world.api.writes[writes_before:] == []

    @promise
    def what_was_heard_was_acted_on(self, writes_before: int, attempt: int | None) -> None:
        # How a job stands may be told later, in status and by an Event.
        told = (JOBS.kind, EVENTS.kind)
        done = [write for write in self.world.api.writes[writes_before:] if write[1] not in told]
        status = self.world.status()
        assert not done, f"an early look found this to do: {done}, {status}"
        assert number(status) == attempt, f"an early look ended attempt {attempt}: {status}"

    @promise
    def every_job_comes_to_its_end(self) -> None:
        status = self.world.status()
        assert status.phase.final or self.world.deleted, f"stuck: {status}"

    @promise
    def a_deleted_job_is_seen_to_its_end(self) -> None:
        if self.world.kept:
            assert self.live_pods() == []
            assert self.world.status().attempt is None, self.world.status()

    @promise
    def no_pod_is_left_over(self) -> None:
        assert (self.world.pods() if self.world.deleted else self.live_pods()) == []

    def live_pods(self) -> list[dict[str, Any]]:
        ended = ("Succeeded", "Failed")
        return [p for p in self.world.pods() if p.get("status", {}).get("phase") not in ended]


def number(status: JobStatus) -> int | None:
    """Return that of the attempt under way."""
    return status.attempt.number if status.attempt else None


def newest_number(status: JobStatus) -> int:
    """Return that of the attempt under way, or of the last one; 0 before the first."""
    return number(status) or (status.attempts[-1].number if status.attempts else 0)


def lost_step(before: JobStatus, after: JobStatus) -> int | None:
    """Return the step of the newest commit of `before`, if `after` shows that it is given up.

    It does by an older one in its place, or by an attempt that began before it.
    """
    if before.last_commit is None or after.last_commit is None:
        return None
    if after.last_commit.step < before.last_commit.step:
        return before.last_commit.step
    first = after.attempt.first_step if after.attempt else None
    committed = after.attempts[-1].committed_step if after.attempts else None
    fell = first is not None and committed is not None and first < committed
    return committed if fell else None


def says_it_lost(status: JobStatus, step: int) -> bool:
    """Whether an attempt is said to have gone on from before a commit of this step.

    It is the one under way, or the one that ended as it was seen.
    """
    said = find(status.conditions, Condition.POSITION_REGRESSED)
    numbers = [number(status), *(ended.number for ended in status.attempts[-1:])]
    return (
        said is not None
        and said.message.startswith(tuple(f"Attempt {n} goes on from step " for n in numbers))
        and f"although step {step} was committed" in said.message
    )


def newest(world: World) -> int:
    """Return the highest number that an attempt had; 0 before the first."""
    return max((number(status) or 0 for status in world.statuses), default=0)


def counters(status: JobStatus) -> list[int]:
    """Return the numbers of a status that only grow."""
    restarts = status.restarts
    counts = [restarts.preempted, restarts.user_error, restarts.hung, restarts.ignored]
    return [*counts, restarts.total, status.observed_generation]
