"""Every field of the spec says when a change takes effect, and the rules, code and docs agree."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rtj_api import crd
from rtj_api.changes import CHANGES, SET_ONCE, Takes, takes
from rtj_api.rules import RULES
from rtj_api.schema import fields
from rtj_api.spec import JobSpec
from rtj_operator.core.spec_changes import launched_with

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[2] / "docs" / "decisions.md"
SPEC: dict[str, Any] = {
    "builder": {"configMap": {"name": "code"}},
    "epochs": 3,
    "checkpoint": {"claimName": "work"},
    "trainer": {"image": "trainer:1"},
}


BESIDE: dict[str, dict[str, Any]] = {
    "spec.builder.claim": {"name": "code"},
    "spec.dataset.cache": {"batchSize": 8},
    "spec.checkpoint.keepBest": {"metric": "loss", "mode": "min"},
}
"""What an optional object cannot be without."""


@cache  # Making the schema takes 60 ms.
def spec_fields() -> list[tuple[str, dict[str, Any], bool]]:
    """Return every field of spec: path, schema, and whether it is required."""
    return list(fields(crd.job_schema()["properties"]["spec"], "spec"))


@cache
def leaves() -> dict[str, dict[str, Any]]:
    """Return the fields of spec, outside of lists, that have no fields of their own."""
    return {
        path: schema
        for path, schema, _ in spec_fields()
        if "[]" not in path and "properties" not in schema
    }


def refuses_changes(path: str) -> bool:
    """Whether the rules refuse a change of this field, or of what it is a part of."""
    parts = path.split(".")
    prefixes = [".".join(parts[:end]) for end in range(2, len(parts) + 1)]
    return any(rule.rule == "self == oldSelf" for p in prefixes for rule in RULES.get(p, []))


def test_every_field_is_classified_and_nothing_else_is() -> None:
    paths = {path for path, _, _ in spec_fields()}
    for path in paths:
        takes(path)
    for path in leaves():
        assert takes(path) is not None, path
    assert set(CHANGES) <= paths


def test_a_field_that_nobody_classified_is_noticed() -> None:
    with pytest.raises(KeyError, match=r"spec\.colour is not listed"):
        takes("spec.colour")


@pytest.mark.parametrize("path", leaves())
def test_the_rules_refuse_a_change_exactly_where_it_is_said(path: str) -> None:
    assert refuses_changes(path) == (takes(path) is Takes.NEVER)


def test_a_field_that_cannot_change_is_always_there_or_cannot_come_and_go() -> None:
    """The API server compares a field with its old value only if both are there."""
    tree = {path: (schema, required) for path, schema, required in spec_fields()}
    for path in (found for found, when in CHANGES.items() if when is Takes.NEVER):
        schema, required = tree[path]
        guard = f"has(self.{path[5:]}) == has(oldSelf.{path[5:]})"
        guarded = any(rule.rule == guard for rule in RULES["spec"])
        assert required or "default" in schema or guarded, path


def test_the_groups_that_cannot_come_or_go_are_those_that_a_rule_holds() -> None:
    held = {
        path
        for path, _, _ in spec_fields()
        if takes(path) is None
        and any(f"has(self.{path[5:]}) == has(oldSelf." in rule.rule for rule in RULES["spec"])
    }
    assert held == SET_ONCE


@pytest.mark.parametrize("path", leaves())
def test_an_attempt_is_told_of_exactly_what_waits_for_the_next(path: str) -> None:
    """The digest in status changes with these fields, and with no other."""
    before, after = with_value(path, first=True), with_value(path, first=False)
    differs = launched_with(before) != launched_with(after)
    assert differs == (takes(path) is Takes.NEXT_ATTEMPT or path == "spec.checkpoint.claimName")


def with_value(path: str, *, first: bool) -> JobSpec:
    """Return a spec that has one of two values of a field."""
    raw: dict[str, Any] = {key: dict(v) if isinstance(v, dict) else v for key, v in SPEC.items()}
    *parents, last = path.split(".")[1:]
    target = raw
    for name in parents:
        target = target.setdefault(name, {})
    target[last] = _value(leaves()[path], first)
    for name, value in BESIDE.get(".".join(["spec", *parents]), {}).items():
        target.setdefault(name, value)
    return JobSpec.model_validate(raw)


def _value(schema: dict[str, Any], first: bool) -> Any:
    if "enum" in schema:
        return schema["enum"][0 if first else 1]
    match schema.get("type"):
        case "integer":
            return schema.get("minimum", 0) + (10 if first else 11)
        case "boolean":
            return first
        case "string" if "[0-9]{12}" in schema.get("pattern", ""):
            return f"{1 if first else 2:012d}-000001"
        case "string" if "Gi" in schema.get("pattern", ""):
            return "1Gi" if first else "2Gi"
        case "string" if "://" in schema.get("pattern", ""):
            return "file:///a" if first else "file:///b"
        case "string":
            return "a" if first else "b"
        case "array":
            return [] if first else [{"action": "Fail", "onPodConditions": [{"type": "A"}]}]
    return {} if first else {"a": "b"}


def test_the_table_in_the_docs_says_the_same() -> None:
    section = DOCS.read_text().partition("## Changing a live job")[2].partition("\n## ")[0]
    told = {
        path: Takes(when)
        for paths, when in re.findall(r"^\| (`spec[^|]*) \| ([^|]*?) \|", section, re.MULTILINE)
        for path in re.findall(r"`(spec[^`]*)`", paths)
    }
    assert told == CHANGES


def test_the_reference_tells_of_every_field_what_a_change_does() -> None:
    spec = (DOCS.parent / "api.md").read_text().partition("\n## spec")[2].partition("\n## ")[0]
    row = r"^\| `(spec[^`]*)`[^|]*\|[^|]*\|[^|]*\| ([^|]*?) ?\|"
    told = dict(re.findall(row, spec, re.MULTILINE))
    assert told.keys() == {path for path, _, _ in spec_fields()}
    assert all(told.values())
    assert told["spec.dataset.cache"] == "field by field; set or taken out: refused"
