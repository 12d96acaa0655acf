"""Words that only a newer trainer or operator knows are read, and leave the job as it is."""

import json
from typing import Any

import pytest
from rtj_api.heartbeat import Heartbeat, TrainerPhase
from rtj_api.names import ANNOTATION_HEARTBEAT, Cause, Condition, ExitCode, Phase, Reason
from rtj_api.restore import MAX_COMMITS_SHOWN, RestoreAnswer, RestoreStatus
from rtj_api.status import EndedAttempt, JobStatus
from rtj_operator.core.decision import AskForStacks
from rtj_operator.core.observed import Silence
from rtj_operator.parse import parse_heartbeat, parse_job, parse_pod

from tests.unit.operator_looks import (
    NOW,
    beat,
    commit,
    created,
    decided,
    final,
    look,
    pod,
    running,
    spec,
)

pytestmark = pytest.mark.unit

BEAT = json.loads(
    beat(
        warning=final(0, Reason.COMMIT_SKIPPED),
        restore=RestoreAnswer(request=1, reason=Reason.RESTORED),
        final=final(ExitCode.PREEMPTED, Reason.TRAINER_PREEMPTED),
    ).model_dump_json(by_alias=True, exclude_none=True)
)
STATUS = json.loads(
    running(
        2,
        attempts=[
            EndedAttempt(
                number=1,
                cause=Cause.PREEMPTED,
                reason=Reason.EVICTED,
                rule_action="Recreate",
                start_time=NOW,
                end_time=NOW,
            )
        ],
        restore=RestoreStatus(from_commit="000000000001-000001", request=1, after_attempt=1),
    ).model_dump_json(by_alias=True, exclude_none=True)
)


def with_word(value: Any, path: str, word: str = "Brandnew") -> Any:
    """Return a copy of JSON with a word at a dotted path; a number names an item of a list."""
    name, _, rest = path.partition(".")
    changed = list(value) if isinstance(value, list) else dict(value)
    key: Any = int(name) if name.isdecimal() else name
    assert key == 0 or key in changed
    changed[key] = with_word(changed[key], rest, word) if rest else word
    return changed


def read(raw: dict[str, Any]) -> Heartbeat | None:
    """Return the beat that a Lease has."""
    lease = {"metadata": {"annotations": {ANNOTATION_HEARTBEAT: json.dumps(raw)}}}
    return parse_heartbeat(lease, "job-uid")


@pytest.mark.parametrize("path", ["warning.reason", "restore.reason", "final.reason"])
def test_a_reason_of_a_newer_trainer_is_told_as_it_is(path: str) -> None:
    heard = read(with_word(BEAT, path))
    assert heard
    assert json.loads(heard.model_dump_json(by_alias=True, exclude_none=True)) == with_word(
        BEAT, path
    )


@pytest.mark.parametrize("word", ["A" * 65, "two words", "", "Words\nbelow"])
@pytest.mark.parametrize("path", ["warning.reason", "restore.reason", "final.reason"])
def test_a_reason_that_no_status_can_hold_is_read_as_the_general_one(path: str, word: str) -> None:
    heard = read(with_word(BEAT, path, word))
    assert heard
    told = json.loads(heard.model_dump_json(by_alias=True, exclude_none=True))
    assert told == with_word(BEAT, path, Reason.TRAINER_FAILED)


def test_a_list_of_a_newer_trainer_is_cut_to_what_status_can_hold() -> None:
    there = [commit(step).id for step in range(MAX_COMMITS_SHOWN + 5)]
    told = decided(look(pod(), status=running(), heartbeat=beat(commits=there))).status
    assert told.commits == there[:MAX_COMMITS_SHOWN]


def test_a_condition_of_somebody_else_beside_all_of_ours_is_kept() -> None:
    words = [*(kind.value for kind in Condition), "example.com/Audited"]
    raw = {**STATUS, "conditions": [{**STATUS["conditions"][0], "type": word} for word in words]}
    job = parse_job({"metadata": {"namespace": "ns", "name": "job", "uid": "uid"}, "status": raw})
    assert [condition.type for condition in job.status.conditions] == words


def test_a_phase_of_a_newer_trainer_is_training_that_has_the_timeout_of_that() -> None:
    raw = {name: value for name, value in BEAT.items() if name != "final"}
    heard = read(with_word(raw, "phase"))
    assert heard
    assert heard.phase is TrainerPhase.TRAINING
    silent = Silence(progress=spec().hang_policy.training_timeout_seconds)
    shown = decided(look(pod(), status=running(), heartbeat=heard, silence=silent))
    assert any(isinstance(action, AskForStacks) for action in shown.actions)


def test_the_last_word_of_a_newer_trainer_is_heard_whatever_its_reason_is() -> None:
    message = final(ExitCode.PERMANENT, Reason.BUILDER_INVALID).model_dump_json(by_alias=True)
    end = {"exitCode": 78, "message": message.replace("BuilderInvalid", "Brandnew")}
    container = {"name": "trainer", "state": {"terminated": end}}
    ended = parse_pod(
        {
            "metadata": {"name": "job-1-0", "uid": "pod-1", "labels": {}},
            "status": {"phase": "Failed", "containerStatuses": [container]},
        }
    )
    status = decided(look(ended, status=running())).status
    assert (status.phase, status.attempts[-1].reason) == (Phase.FAILED, "Brandnew")


@pytest.mark.parametrize(
    "path",
    [
        "phase",
        "conditions.0.type",
        "conditions.0.reason",
        "attempts.0.cause",
        "attempts.0.reason",
        "attempts.0.ruleAction",
        "restore.outcome",
    ],
)
def test_a_status_of_a_newer_operator_is_read_kept_and_gone_on_from(path: str) -> None:
    raw = with_word(STATUS, path)
    job = parse_job({"metadata": {"namespace": "ns", "name": "job", "uid": "uid"}, "status": raw})
    assert json.loads(job.status.model_dump_json(by_alias=True, exclude_none=True)) == raw
    assert created(decided(look(status=job.status))) == ["job-3-0"]
    assert decided(look(pod(2), status=job.status, heartbeat=beat(attempt=2))).status.attempt


def test_what_is_no_word_is_still_refused() -> None:
    assert read(BEAT | {"phase": 7}) is None
    with pytest.raises(ValueError, match="phase"):
        JobStatus.model_validate({"phase": 7})
