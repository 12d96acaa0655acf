"""Histories written by hand, for what a search of the model would take long to come to."""

from dataclasses import dataclass, field
from typing import Any

from tests.model.test_operator_model import OperatorMachine

QUIET = {
    "deadline": None,
    "no_progress": 100,
    "disruptions": None,
    "window": None,
    "rules": False,
}
"""A job whose budgets nothing uses up."""


@dataclass(frozen=True)
class Step:
    """One thing that happens, mostly to a job that runs well."""

    rule: str
    draws: dict[str, Any]


def happens(rule: str, **draws: Any) -> Step:
    """Return a step that finds the job as it is, and after which the operator works."""
    return Step(rule, {"steps_before": 0, "lags": False, **draws})


def while_it_runs(rule: str, **draws: Any) -> Step:
    """Return a step that finds the job running, with a commit at its newest step."""
    return happens(rule, steps_before=6, **draws)


@dataclass(frozen=True)
class History:
    """A job and what happens to it, up to its end."""

    steps: tuple[Step, ...]
    job: dict[str, Any] = field(default_factory=dict)

    def play(self) -> None:
        """Let it happen, and check every promise after each step, as a search does."""
        machine = OperatorMachine()
        machine.start(**(QUIET | self.job))
        for step in self.steps:
            getattr(machine, step.rule)(**step.draws)
            for always in machine.invariants:
                always.function(machine)
        machine.teardown()


def history(*steps: Step, **job: Any) -> History:
    """Return what happens to a job that differs so from a quiet one."""
    return History(steps, job)
