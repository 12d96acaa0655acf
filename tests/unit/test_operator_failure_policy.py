"""Rules, budgets and their window: what an ended attempt costs, one sentence a test."""

import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from rtj_api.heartbeat import FinalRecord, Heartbeat
from rtj_api.names import Cause, Condition, ExitCode, Phase, Reason
from rtj_api.spec import JobSpec
from rtj_api.status import EndedAttempt, Restarts
from rtj_operator.core.conditions import find
from rtj_operator.core.decision import Decision
from rtj_operator.core.observed import ContainerExit, Pod, Silence, Waiting
from rtj_operator.core.validate import parse_spec

from tests.model.world import World
from tests.unit.operator_looks import (
    DONE,
    NOW,
    after,
    beat,
    commit,
    condition,
    created,
    decided,
    exited,
    final,
    look,
    notices,
    pause,
    pod,
    running,
    spec,
    starting,
)

pytestmark = pytest.mark.unit

FAILED = final(ExitCode.USER_ERROR, Reason.BUILDER_FAILED, "OSError: no route to host")
DRAINED = Waiting("EvictionByEvictionAPI", "drained")
DISRUPTED = frozenset({("DisruptionTarget", "True"), ("Ready", "False")})

ON_ONE = {"onExitCodes": {"operator": "In", "values": [1, 42]}}
ON_DISRUPTION = {"onPodConditions": [{"type": "DisruptionTarget"}]}


def rules(*rules: dict[str, Any], **policy: Any) -> JobSpec:
    return spec(failurePolicy={"rules": list(rules), **policy})


def rule(action: str, match: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"action": action, **match, **fields}


def saying(pattern: str) -> dict[str, Any]:
    return {"onTerminationMessage": {"pattern": pattern}}


def crashed(record: FinalRecord | None = FAILED, code: int = 1, **fields: Any) -> Pod:
    return exited(code, record, **{"exits": (("trainer", code),), **fields})


def evicted(**fields: Any) -> Pod:
    return crashed(None, 75, disruption=DRAINED, conditions=DISRUPTED, **fields)


def after_end(of: Pod, policy: JobSpec, **status: Any) -> Decision:
    return decided(look(of, status=running(**status), spec=policy))


def ended(number: int, cause: Cause = Cause.PREEMPTED, step: int | None = None) -> EndedAttempt:
    return EndedAttempt(
        number=number,
        cause=cause,
        reason=Reason.POD_DELETED,
        committed_step=step,
        start_time=NOW,
        end_time=NOW,
    )


def failed_for(decision: Decision) -> Reason | None:
    shown = condition(decision, Condition.FAILED)
    return shown.reason if shown else None


class TestActions:
    """What a rule does."""

    def test_ignore_starts_the_next_attempt_at_once_and_charges_nothing(self) -> None:
        decision = after_end(crashed(), rules(rule("Ignore", ON_ONE, name="flaky")))
        assert created(decision) == ["job-2-0"]
        assert decision.status.restarts == Restarts(ignored=1, total=1)
        assert decision.status.attempts[0].cause is Cause.USER_ERROR
        shown = condition(decision, Condition.RESTARTING)
        assert shown
        assert "no route to host" in shown.message
        assert "spec.failurePolicy.rules[0] (flaky): Ignore" in shown.message

    def test_the_rule_is_named_however_long_the_trainers_last_words_are(self) -> None:
        words = final(ExitCode.USER_ERROR, Reason.TRAINER_FAILED, "x" * 2048)
        decision = after_end(crashed(words), rules(rule("Ignore", ON_ONE, name="n" * 63)))
        assert decision.status.attempts[0].message.endswith(f"rules[0] ({'n' * 63}): Ignore.")

    def test_the_conditions_of_a_pod_that_is_gone_by_now_are_those_it_was_last_seen_with(
        self,
    ) -> None:
        going = pod(deleting=True, disruption=DRAINED, conditions=DISRUPTED)
        policy = rules(rule("Fail", ON_DISRUPTION))
        assert failed_for(decided(look(status=running(), spec=policy))) is None
        seen = look(status=running(), spec=policy, gone=going)
        assert failed_for(decided(seen)) is Reason.FAILED_BY_RULE
        older = look(status=running(attempt=2), spec=policy, gone=going)
        assert failed_for(decided(older)) is None

    def test_ignore_goes_on_where_every_budget_is_used_up(self) -> None:
        used = Restarts(user_error=3, preempted=9, no_progress=2, total=12)
        policy = rules(rule("Ignore", ON_ONE), maxDisruptionRestarts=9)
        decision = after_end(crashed(), policy, restarts=used)
        assert created(decision) == ["job-2-0"]
        assert decision.status.restarts.no_progress == 2

    def test_what_is_ignored_again_and_again_without_a_commit_is_tried_ever_more_slowly(
        self,
    ) -> None:
        policy = rules(rule("Ignore", ON_ONE))
        pauses = []
        for number in range(1, 6):
            before = [ended(n, Cause.USER_ERROR) for n in range(1, number)]
            status = running(number, attempts=before)
            crash = crashed(attempt=number, name=f"job-{number}-0", uid=f"pod-{number}")
            pauses.append(pause(decided(look(crash, status=status, spec=policy))))
        assert pauses[:2] == [0, 0]
        assert pauses[2:] == [
            pytest.approx(12.5, abs=2.5),
            pytest.approx(25, abs=5),
            pytest.approx(50, abs=10),
        ]

    def test_ignored_attempts_that_commit_are_never_slowed_down(self) -> None:
        before = [ended(n, Cause.USER_ERROR, step=n) for n in range(1, 6)]
        status = running(6, attempts=before, last_commit=commit(60))
        crash = crashed(attempt=6, name="job-6-0", uid="pod-6")
        decision = decided(look(crash, status=status, spec=rules(rule("Ignore", ON_ONE))))
        assert created(decision) == ["job-7-0"]

    def test_count_charges_a_preemption_to_the_backoff_limit(self) -> None:
        policy = rules(rule("Count", ON_DISRUPTION))
        decision = after_end(evicted(), policy)
        assert decision.status.restarts == Restarts(user_error=1, total=1)
        assert decision.status.attempts[0].cause is Cause.PREEMPTED
        assert pause(decision) == pytest.approx(12.5, abs=2.5)
        last = after_end(evicted(), policy, restarts=Restarts(user_error=3, total=3))
        assert failed_for(last) is Reason.BACKOFF_LIMIT_EXCEEDED

    def test_fail_ends_the_job_at_once_and_names_the_rule(self) -> None:
        policy = rules(
            rule("Ignore", saying("never said")), rule("Fail", ON_ONE, name="out-of-licence")
        )
        decision = after_end(crashed(), policy)
        failed = condition(decision, Condition.FAILED)
        assert failed
        assert failed.reason is Reason.FAILED_BY_RULE
        assert "spec.failurePolicy.rules[1] (out-of-licence)" in failed.message
        assert "no route to host" in failed.message
        assert notices(decision) == [Reason.FAILED_BY_RULE]
        assert created(decision) == []
        assert decision.status.attempts[0].cause is Cause.USER_ERROR

    def test_recreate_starts_at_once_and_counts_as_a_disruption(self) -> None:
        policy = rules(rule("Recreate", ON_ONE), maxDisruptionRestarts=1)
        decision = after_end(crashed(), policy)
        assert created(decision) == ["job-2-0"]
        assert decision.status.restarts == Restarts(preempted=1, no_progress=1, total=1)
        last = after_end(crashed(), policy, restarts=Restarts(preempted=1, total=1))
        assert failed_for(last) is Reason.DISRUPTION_LIMIT_EXCEEDED

    def test_recreate_without_progress_ends_all_the_same(self) -> None:
        used = Restarts(preempted=2, no_progress=2, total=2)
        policy = rules(rule("Recreate", ON_ONE))
        assert failed_for(after_end(crashed(), policy, restarts=used)) is Reason.NO_PROGRESS

    def test_a_pod_whose_init_container_fails_is_not_recreated_for_ever(self) -> None:
        broken = pod(phase="Failed", started=False, exits=(("fetch", 1),))
        used = Restarts(preempted=2, no_progress=2, total=2)
        policy = rules(rule("Recreate", ON_ONE))
        assert failed_for(after_end(broken, policy, restarts=used)) is Reason.NO_PROGRESS

    def test_the_first_rule_that_matches_decides(self) -> None:
        policy = rules(rule("Ignore", saying("no route")), rule("Fail", ON_ONE))
        assert created(after_end(crashed(), policy)) == ["job-2-0"]

    def test_without_a_match_nothing_changes(self) -> None:
        policy = rules(rule("Fail", saying("CUDA")), rule("Fail", ON_DISRUPTION))
        decision = after_end(crashed(), policy)
        assert decision.status.restarts == Restarts(user_error=1, total=1)

    @pytest.mark.parametrize("action", ["Ignore", "Recreate", "Count", "Fail"])
    def test_the_attempt_says_what_a_rule_made_of_it(self, action: str) -> None:
        assert (
            after_end(crashed(), rules(rule(action, ON_ONE))).status.attempts[-1].rule_action
            == action
        )
        assert after_end(crashed(), rules()).status.attempts[-1].rule_action is None

    def test_a_crash_of_the_operator_after_the_write_does_not_charge_twice(self) -> None:
        observed = look(crashed(), status=running(), spec=rules(rule("Recreate", ON_ONE)))
        decision = decided(observed)
        again = decided(after(observed, decision, crashed()))
        assert again.status == decision.status
        assert created(again) == created(decision)


class TestBeyondTheRules:
    """What no rule may touch."""

    @pytest.mark.parametrize("action", ["Ignore", "Recreate", "Count"])
    @pytest.mark.parametrize(
        "reason",
        [
            Reason.FINGERPRINT_MISMATCH,
            Reason.POSITION_LOST,
            Reason.PIPELINE_NOT_RESUMABLE,
            Reason.BUILDER_INVALID,
        ],
    )
    def test_what_no_retry_can_help_fails_the_job(self, action: str, reason: Reason) -> None:
        every = {"onExitCodes": {"operator": "NotIn", "values": [0]}}
        refused = crashed(final(ExitCode.PERMANENT, reason), 78)
        assert failed_for(after_end(refused, rules(rule(action, every)))) is reason

    def test_complete_is_complete(self) -> None:
        done = exited(0, DONE, disruption=DRAINED, conditions=DISRUPTED)
        decision = after_end(done, rules(rule("Fail", ON_DISRUPTION)))
        assert decision.status.phase is Phase.COMPLETED

    def test_a_hung_trainer_counts_as_hung(self) -> None:
        policy = rules(rule("Fail", {"onPodConditions": [{"type": "Ready", "status": "True"}]}))
        still = Silence(progress=10_000)
        hung = pod(conditions=frozenset({("Ready", "True")}))
        observed = look(hung, status=running(), heartbeat=beat(), silence=still, spec=policy)
        assert decided(observed).status.restarts == Restarts(hung=1, total=1)

    def test_a_suspended_job_is_not_failed_by_the_end_that_was_asked_for(self) -> None:
        policy = JobSpec.model_validate(
            {
                **rules(rule("Fail", ON_DISRUPTION)).model_dump(by_alias=True),
                "runPolicy": {"suspend": True},
            }
        )
        assert after_end(evicted(), policy).status.phase is Phase.SUSPENDED


class TestMatching:
    """Which endings a rule is about."""

    @pytest.mark.parametrize(
        ("match", "exits", "matches"),
        [
            ({"operator": "In", "values": [1, 42]}, (("trainer", 1),), True),
            ({"operator": "In", "values": [42]}, (("trainer", 1),), False),
            ({"operator": "NotIn", "values": [42]}, (("trainer", 1),), True),
            ({"operator": "NotIn", "values": [1]}, (("trainer", 1),), False),
            ({"operator": "In", "values": [7]}, (("trainer", 1), ("sidecar", 7)), True),
            (
                {"operator": "In", "values": [7], "containerName": "trainer"},
                (("trainer", 1), ("sidecar", 7)),
                False,
            ),
            # One that succeeded is not looked at, or every NotIn would match it.
            ({"operator": "NotIn", "values": [1]}, (("trainer", 1), ("sidecar", 0)), False),
        ],
    )
    def test_exit_codes(
        self, match: dict[str, Any], exits: tuple[tuple[str, int], ...], matches: bool
    ) -> None:
        decision = after_end(crashed(exits=exits), rules(rule("Fail", {"onExitCodes": match})))
        assert (failed_for(decision) is Reason.FAILED_BY_RULE) == matches

    def test_the_exit_code_of_a_pod_that_is_gone_is_known_by_the_heartbeat(self) -> None:
        policy = rules(rule("Fail", ON_ONE))
        gone = look(status=running(), heartbeat=beat(final=FAILED), spec=policy)
        assert failed_for(decided(gone)) is Reason.FAILED_BY_RULE

    @pytest.mark.parametrize(("status", "matches"), [("True", True), ("False", False)])
    def test_a_condition_matches_by_type_and_status(self, status: str, matches: bool) -> None:
        match = {
            "onPodConditions": [{"type": "Other"}, {"type": "DisruptionTarget", "status": status}]
        }
        decision = after_end(evicted(), rules(rule("Fail", match)))
        assert (failed_for(decision) is Reason.FAILED_BY_RULE) == matches

    @pytest.mark.parametrize(
        ("pattern", "matches"),
        [
            ("no route", True),
            (r"^BuilderFailed: OSError", True),
            (r"^OSError", False),
            (r"(?i)NO ROUTE TO \w+$", True),
            ("NO ROUTE", False),
        ],
    )
    def test_a_message_matches_by_reason_and_words(self, pattern: str, matches: bool) -> None:
        decision = after_end(crashed(), rules(rule("Fail", saying(pattern))))
        assert (failed_for(decision) is Reason.FAILED_BY_RULE) == matches

    def test_a_program_that_left_no_record_is_matched_by_the_end_of_its_log(self) -> None:
        log = ContainerExit(1, "Error", "Traceback …\nMemoryError: 4 GiB")
        crash = pod(phase="Failed", exit=log, exits=(("trainer", 1),))
        decision = after_end(crash, rules(rule("Fail", saying(r"(?m)^MemoryError"))))
        assert failed_for(decision) is Reason.FAILED_BY_RULE

    @pytest.mark.parametrize(
        "pattern", ["(a+)+$", "(a|aa)+$", "(.*a){99}b", "((.{1,9}){1,9}){1,9}b"]
    )
    def test_no_pattern_can_hold_up_the_operator(self, pattern: str) -> None:
        words = final(ExitCode.USER_ERROR, Reason.TRAINER_FAILED, "a" * 2040 + "!")
        policy = rules(rule("Fail", saying(pattern)))
        begun = time.process_time()
        after_end(crashed(words), policy)
        assert time.process_time() - begun < 5


class TestBudgets:
    """How often."""

    def test_disruptions_are_unlimited_by_default(self) -> None:
        used = Restarts(preempted=100_000, total=100_000)
        assert created(after_end(evicted(), spec(), restarts=used)) == ["job-2-0"]

    def test_a_limit_on_disruptions_fails_the_job_with_its_own_reason(self) -> None:
        policy = rules(maxDisruptionRestarts=2)
        once = after_end(evicted(), policy, restarts=Restarts(preempted=1, total=1))
        assert once.status.restarts.preempted == 2
        last = after_end(evicted(), policy, restarts=Restarts(preempted=2, total=2))
        failed = condition(last, Condition.FAILED)
        assert failed
        assert failed.reason is Reason.DISRUPTION_LIMIT_EXCEEDED
        assert "Disruption 3" in failed.message
        assert "spec.failurePolicy.maxDisruptionRestarts 2" in failed.message
        assert "drained" in failed.message

    def test_no_disruption_at_all_may_be_allowed(self) -> None:
        decision = after_end(evicted(), rules(maxDisruptionRestarts=0))
        assert failed_for(decision) is Reason.DISRUPTION_LIMIT_EXCEEDED

    def test_failures_do_not_use_the_budget_of_disruptions(self) -> None:
        used = Restarts(preempted=2, total=2)
        decision = after_end(crashed(), rules(maxDisruptionRestarts=2), restarts=used)
        assert decision.status.restarts == Restarts(preempted=2, user_error=1, total=3)


class TestWindow:
    """Only what happened lately."""

    WINDOW = rules(windowSeconds=3600, maxDisruptionRestarts=2)

    def times(self, *ago: float) -> list[Any]:
        return [NOW - timedelta(seconds=seconds) for seconds in ago]

    def test_failures_of_long_ago_are_forgotten_and_the_pause_is_short_again(self) -> None:
        used = Restarts(user_error=9, total=9, failure_times=self.times(7200, 3600, 10))
        decision = after_end(crashed(), self.WINDOW, restarts=used)
        assert decision.status.restarts.user_error == 10
        assert decision.status.restarts.failure_times == [*self.times(10), NOW]
        assert pause(decision) == pytest.approx(25, abs=5)

    def test_failures_within_the_window_end_the_job(self) -> None:
        used = Restarts(user_error=9, total=9, failure_times=self.times(3599, 20, 10))
        failed = condition(after_end(crashed(), self.WINDOW, restarts=used), Condition.FAILED)
        assert failed
        assert failed.reason is Reason.BACKOFF_LIMIT_EXCEEDED
        assert "Failure 4 within 3600 s (spec.failurePolicy.windowSeconds)" in failed.message

    def test_disruptions_have_a_window_of_their_own(self) -> None:
        lately = self.times(20, 10)
        used = Restarts(preempted=2, total=2, disruption_times=lately)
        last = after_end(evicted(), self.WINDOW, restarts=used)
        assert failed_for(last) is Reason.DISRUPTION_LIMIT_EXCEEDED
        other = after_end(crashed(), self.WINDOW, restarts=used)
        assert other.status.restarts.failure_times == [NOW]
        assert other.status.restarts.disruption_times == lately

    def test_status_keeps_as_many_times_as_the_budget_has_and_none_without_a_window(self) -> None:
        used = Restarts(preempted=9, total=9, disruption_times=self.times(7000, 10))
        kept = after_end(evicted(), self.WINDOW, restarts=used).status.restarts
        assert kept.disruption_times == [*self.times(10), NOW]
        unlimited = after_end(evicted(), rules(windowSeconds=3600)).status.restarts
        assert unlimited.disruption_times == []
        assert after_end(crashed(), spec()).status.restarts.failure_times == []

    def test_no_progress_has_no_window(self) -> None:
        used = Restarts(preempted=2, no_progress=2, total=2)
        decision = after_end(evicted(), rules(windowSeconds=1), restarts=used)
        assert failed_for(decision) is Reason.NO_PROGRESS


class TestUnstartable:
    """A pod that sits on its node and cannot start."""

    def stuck(
        self, reason: str, waited: float, container: str = "trainer", **status: Any
    ) -> Decision:
        waiting = Waiting(reason, "the kubelet's words", container)
        observed = look(
            pod(phase="Pending", started=False, waiting=waiting),
            status=running(**status),
            silence=Silence(unstartable=waited),
        )
        return decided(observed)

    @pytest.mark.parametrize(
        ("reason", "expected"),
        [
            ("ErrImagePull", Reason.IMAGE_NOT_PULLABLE),
            ("ImagePullBackOff", Reason.IMAGE_NOT_PULLABLE),
            ("CreateContainerConfigError", Reason.CONTAINER_NOT_CREATED),
            ("CreateContainerError", Reason.CONTAINER_NOT_CREATED),
            ("CrashLoopBackOff", Reason.CONTAINER_NOT_STARTED),
        ],
    )
    def test_is_waited_for_ten_minutes_and_then_fails_the_job(
        self, reason: str, expected: Reason
    ) -> None:
        waiting = self.stuck(reason, 590)
        assert waiting.status.attempt
        assert waiting.requeue_after
        assert waiting.requeue_after <= 10
        failed = condition(self.stuck(reason, 600), Condition.FAILED)
        assert failed
        assert failed.reason is expected
        assert "the kubelet's words" in failed.message
        assert "600 s (spec.failurePolicy.cannotStartTimeoutSeconds)" in failed.message

    @pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
    def test_is_not_waited_for_if_waiting_cannot_help(self, reason: str) -> None:
        decision = self.stuck(reason, 0)
        failed = condition(decision, Condition.FAILED)
        assert failed
        assert failed.reason is Reason.IMAGE_NOT_PULLABLE
        assert "make a new job" in failed.message
        assert notices(decision) == [Reason.IMAGE_NOT_PULLABLE]
        assert decision.status.attempts[0].cause is Cause.PERMANENT

    @pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
    def test_is_waited_for_all_the_same_where_there_is_a_commit_to_lose(self, reason: str) -> None:
        decision = self.stuck(reason, 0, last_commit=commit(40))
        assert decision.status.attempt
        assert failed_for(self.stuck(reason, 600, last_commit=commit(40)))

    @pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing", "Unschedulable"])
    def test_is_not_one_that_merely_waits(self, reason: str) -> None:
        assert self.stuck(reason, 0).status.attempt

    def test_may_fail_with_more_words_than_status_has_room_for(self) -> None:
        waiting = Waiting("ErrImagePull", "x" * 10_000)
        observed = look(
            pod(phase="Pending", started=False, waiting=waiting),
            status=running(),
            silence=Silence(unstartable=600),
        )
        failed = condition(decided(observed), Condition.FAILED)
        assert failed
        assert "make a new job" in failed.message

    def test_names_the_init_container_whose_image_it_is(self) -> None:
        failed = condition(self.stuck("ErrImagePull", 600, "fetch"), Condition.FAILED)
        assert failed
        assert "container fetch in spec.trainer.podTemplate" in failed.message

    def test_names_the_sidecar_that_crashes_and_where_it_says_why(self) -> None:
        waits = pod(started=False, waiting=Waiting("CrashLoopBackOff", container="proxy"))
        shown = condition(decided(look(waits, status=starting())), Condition.RUNNING)
        assert shown
        assert "container proxy of spec.trainer.podTemplate, which fails again" in shown.message
        assert "kubectl logs job-1-0 -c proxy" in shown.message

    @pytest.mark.parametrize("heard", [beat(), None])
    @pytest.mark.parametrize(
        "reason", ["ImagePullBackOff", "ErrImageNeverPull", "CrashLoopBackOff"]
    )
    def test_is_not_one_whose_trainer_runs_beside_a_sidecar_that_cannot(
        self, heard: Heartbeat | None, reason: str
    ) -> None:
        waiting = Waiting(reason, container="proxy")
        observed = look(
            pod(waiting=waiting),
            status=running(),
            silence=Silence(unstartable=600),
            heartbeat=heard,
        )
        decision = decided(observed)
        assert decision.status.attempt
        shown = condition(decision, Condition.RUNNING)
        assert shown
        assert shown.reason is Reason.TRAINING

    def test_is_one_whose_sidecar_crashes_though_it_runs_for_a_while_each_time(self) -> None:
        world = World(failure_policy={"cannotStartTimeoutSeconds": 300})

        def proxy(restarts: int, **state: Any) -> None:
            (pod,) = world.pods()
            status = {"name": "proxy", "restartCount": restarts, "started": False, "state": state}
            world._update_pod(pod, lambda p: p["status"].update(initContainerStatuses=[status]))

        world.work()
        world.schedule()
        world._set_state(world.pods()[0], "Pending", {"waiting": {"reason": "PodInitializing"}})
        for restarts in range(1, 9):
            proxy(restarts, waiting={"reason": "CrashLoopBackOff"})
            world.advance(30)
            proxy(restarts + 1, running={})
            world.advance(10)
        assert [told for told in world.events(Reason.CONTAINER_NOT_STARTED) if "proxy" in told]
        shown = find(world.status().conditions, Condition.FAILED)
        assert shown
        assert shown.reason is Reason.CONTAINER_NOT_STARTED
        world.close()

    def test_is_timed_anew_once_it_was_seen_without_a_problem(self) -> None:
        world = World(failure_policy={"cannotStartTimeoutSeconds": 30})

        def waits(reason: str, seconds: int) -> bool:
            """Let the pod wait so for a while; return whether the job still does."""
            (pod,) = world.pods()
            world._set_state(pod, "Pending", {"waiting": {"reason": reason}})
            world.advance(seconds)
            return not world.status().phase.final

        world.work()
        world.schedule()
        assert waits("ErrImagePull", 20)
        assert waits("PodInitializing", 60), "an init container runs"
        assert waits("ErrImagePull", 20)
        assert not waits("ImagePullBackOff", 15)
        world.close()


def test_the_rules_that_the_documentation_shows_are_accepted() -> None:
    text = (Path(__file__).parents[2] / "docs" / "decisions.md").read_text()
    (example,) = re.findall(r"```yaml\n(failurePolicy:.*?)```", text, re.DOTALL)
    shown = yaml.safe_load(example)
    parsed, error = parse_spec("job", {**spec().model_dump(by_alias=True), **shown})
    assert error == ""
    assert parsed
    assert [str(rule.action) for rule in parsed.failure_policy.rules] == [
        "Ignore",
        "Recreate",
        "Fail",
        "Count",
    ]
