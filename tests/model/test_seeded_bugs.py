"""The model finds what it is there to find: each promise finds the bugs that break it.

Only the promise that a bug is meant for is checked, so that no other can find it in its place. No
bug may live through some hundred histories, or through the one that was written for it.
"""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model import promise
from tests.model.bugs import BUGS
from tests.model.histories import History
from tests.model.test_operator_model import OperatorMachine

pytestmark = pytest.mark.unit

EXAMPLES = 300
HISTORIES = {name: bug.history for name, bug in BUGS.items() if bug.history}


def search() -> None:
    run_state_machine_as_test(
        OperatorMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("name", BUGS)
def test_a_promise_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS[name]
    bug.seed(monkeypatch)
    monkeypatch.setattr(promise, "only", bug.promise)
    with pytest.raises(promise.BrokenPromiseError) as broken:
        bug.history.play() if bug.history else search()
    assert broken.value.promise == bug.promise


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_without_the_bug_all_is_well(history: History) -> None:
    history.play()


def test_each_promise_has_a_bug() -> None:
    assert {bug.promise for bug in BUGS.values()} == set(promise.PROMISES)
