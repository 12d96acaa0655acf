"""The model finds what it is there to find: a bug is put in for each of its promises.

Each is one line that a tired developer might write. None may live through some hundred histories.
Only bugs that are found within seconds are kept here.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from rtj_operator import reconcile
from rtj_operator.core import (
    budget,
    decide,
    launch,
    liveness,
    observed,
    podspec,
    progress,
)
from rtj_operator.core.decision import Decision

from tests.model.test_operator_model import OperatorMachine
from tests.model.world import Volume

pytestmark = pytest.mark.unit

EXAMPLES = 300
Patch = pytest.MonkeyPatch
BUGS: dict[str, Callable[[Patch], None]] = {}


def bug(seed: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Note a bug by its name."""
    BUGS[seed.__name__] = seed
    return seed


# Never two live attempts that can both commit; attempt numbers only grow.


@bug
def the_next_attempt_takes_the_number_of_the_last(patch: Patch) -> None:
    patch.setattr(launch, "next_number", lambda plan: max(plan.newest_number, 1))


@bug
def a_trainer_does_not_look_at_the_fence(patch: Patch) -> None:
    class Open(Volume):
        fences = property(lambda _: _NoFence(), lambda *_: None)  # type: ignore[assignment]

    patch.setattr("tests.model.world.Volume", Open)


class _NoFence(set[int]):
    def __iter__(self) -> Any:
        return iter((0,))


# Never a restart past a budget.


@bug
def one_failure_too_many_is_forgiven(patch: Patch) -> None:
    _with_limit(patch, "backoff_limit", "run_policy")


@bug
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


# Status never goes backwards; the healthy are spared.


@bug
def a_trainer_that_starts_moves_the_position_to_zero(patch: Patch) -> None:
    patch.setattr(progress, "is_training", lambda _: True)


@bug
def a_silent_trainer_is_taken_for_a_dead_node(patch: Patch) -> None:
    def dead(look: observed.Observed, pod: observed.Pod) -> bool:
        return bool(pod.node) and look.silence.heartbeat >= look.settings.node_silence

    patch.setattr(liveness, "node_is_dead", dead)


# Every action may be repeated; the decision is written before it is acted on.


@bug
def a_pods_name_differs_each_time(patch: Patch) -> None:
    names = iter(range(10**9))
    patch.setattr(launch, "pod_manifest", lambda *rest: _named(podspec.pod_manifest(*rest), names))


def _named(pod: dict[str, Any], names: Any) -> dict[str, Any]:
    pod["metadata"]["name"] += f"-{next(names)}"
    return pod


@bug
def each_look_writes(patch: Patch) -> None:
    decided = decide.decide

    def restless(look: observed.Observed, now: Any) -> Decision:
        decision = decided(look, now)
        another = "1%" if decision.status.progress != "1%" else "2%"
        status = decision.status.model_copy(update={"progress": another})
        return replace(decision, status=status)

    patch.setattr(reconcile, "decide", restless)


@pytest.mark.parametrize("name", BUGS)
def test_the_model_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[name](monkeypatch)
    with pytest.raises((AssertionError, RuntimeError)):
        run_state_machine_as_test(
            OperatorMachine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=40,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
