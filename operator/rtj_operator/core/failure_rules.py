"""`spec.failurePolicy.rules`: which rule speaks about an ended attempt, and what it says.

Patterns come from users and are searched in what their programs wrote, inside the operator's one
event loop, so no pattern may take long. Python's `re` backtracks, exponentially for `(a+)+$`. The
engine used here is the one that pydantic brings for its own patterns, Rust's `regex`: automata, so
linear in text times pattern, without look-around and backreferences. What a pattern may grow to by
its counted repetitions is bounded on top, so that the slowest takes less than 0.1 s.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema
from rtj_api.failure import MAX_COUNT_DIGITS, FailureRule, OnExitCodes, RuleAction
from rtj_api.names import TRAINER_CONTAINER, Cause
from rtj_api.spec import JobSpec

from rtj_operator.core.classify import Ending
from rtj_operator.core.observed import Pod

LONGEST_TEXT = 2048
_UPPER_COUNT = re.compile(r"([0-9]+),?\}")
"""The 30 of {1,30}, {30} and {30,}."""


@dataclass(frozen=True)
class Ruling:
    """What a rule says about an ended attempt."""

    action: RuleAction
    where: str
    """The rule's path in the spec, and its name if it has one."""


def ruling_on(ending: Ending, pod: Pod | None, spec: JobSpec) -> Ruling | None:
    """Return what the first rule that matches says; None if no rule speaks about this ending.

    `pod` is None if it was never seen: the trainer's own last words are then all there is.
    """
    if ending.cause not in (Cause.PREEMPTED, Cause.USER_ERROR):
        return None
    for index, rule in enumerate(spec.failure_policy.rules):
        if _matches(rule, ending, pod):
            name = f" ({rule.name})" if rule.name else ""
            return Ruling(rule.action, f"spec.failurePolicy.rules[{index}]{name}")
    return None


def problem_of(spec: JobSpec) -> str:
    """Say what is wrong with the rules; empty if nothing is."""
    for index, rule in enumerate(spec.failure_policy.rules):
        path = f"spec.failurePolicy.rules[{index}]"
        matchers = (rule.on_exit_codes, rule.on_pod_conditions, rule.on_termination_message)
        if sum(matcher is not None for matcher in matchers) != 1:
            return (
                f"{path}: set exactly one of onExitCodes, onPodConditions and onTerminationMessage."
            )
        if rule.on_termination_message:
            pattern = rule.on_termination_message.pattern
            if problem := _problem_of_pattern(pattern):
                return f"{path}.onTerminationMessage.pattern {pattern!r}: {problem}"
    return ""


def _matches(rule: FailureRule, ending: Ending, pod: Pod | None) -> bool:
    if rule.on_exit_codes:
        return any(_code_matches(rule.on_exit_codes, *exit_) for exit_ in _exits(ending, pod))
    if rule.on_pod_conditions:
        had = pod.conditions if pod else frozenset()
        return any((wanted.type, wanted.status) in had for wanted in rule.on_pod_conditions)
    if rule.on_termination_message:
        text = ending.last_words[:LONGEST_TEXT]
        return _compiled(rule.on_termination_message.pattern).isinstance_python(text)
    return False


def _code_matches(wanted: OnExitCodes, container: str, code: int) -> bool:
    if code == 0 or wanted.container_name not in (None, container):
        return False
    return (code in wanted.values) == (wanted.operator == "In")


def _exits(ending: Ending, pod: Pod | None) -> Iterator[tuple[str, int]]:
    """Yield containers and their exit codes; the trainer's may be known by its heartbeat alone."""
    exits = pod.exits if pod else ()
    yield from exits
    trainer_known = any(name == TRAINER_CONTAINER for name, _ in exits)
    if ending.exit_code is not None and not trainer_known:
        yield TRAINER_CONTAINER, ending.exit_code


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


def _problem_of_pattern(pattern: str) -> str:
    digits = "".join(_UPPER_COUNT.findall(pattern))
    if len(digits) > MAX_COUNT_DIGITS:
        return (
            f"its upper counts in braces have more than {MAX_COUNT_DIGITS} digits together. "
            "Use * or + instead."
        )
    try:
        _compiled(pattern)
    except SchemaError as error:
        why = str(error).rpartition("error: ")[2].rpartition("SchemaError: ")[2]
        return f"it is no regular expression in RE2 syntax: {why.strip(' .')}."
    return ""
