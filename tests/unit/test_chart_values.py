"""The chart's values: each explained, each in the schema, each read by a template."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "rtj-operator"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
FREE = {"nodeSelector", "tolerations", "affinity", "resources", "podLabels", "podAnnotations"}
"""Values that are pod fields: their inside is Kubernetes' own."""


def value_paths(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of each value."""
    for name, value in tree.items():
        if isinstance(value, dict) and value and name not in FREE:
            yield from value_paths(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def schema_paths(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of each value that the schema allows."""
    for name, child in schema["properties"].items():
        if "properties" in child and name not in FREE:
            yield from schema_paths(child, f"{prefix}{name}.")
        elif name != "global":
            yield prefix + name


def test_values_and_schema_name_the_same_values() -> None:
    assert set(value_paths(VALUES)) == set(schema_paths(SCHEMA))


def test_the_schema_refuses_what_it_does_not_name_at_every_level() -> None:
    def closed(schema: dict[str, Any], path: str) -> None:
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path
            for name, child in schema["properties"].items():
                closed(child, f"{path}.{name}")

    closed(SCHEMA, "values")


def test_every_value_has_a_comment_above_it() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    indents = {
        path: "  " * path.count(".") + path.rpartition(".")[2] + ":" for path in value_paths(VALUES)
    }
    for path, start in indents.items():
        above = [lines[at - 1].strip() for at, line in enumerate(lines) if line.startswith(start)]
        assert above, path
        assert all(line.startswith("# ") for line in above), path


def test_every_value_is_read_by_a_template() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    read = set(re.findall(r"\.Values\.([A-Za-z.]+)", templates))
    assert set(value_paths(VALUES)) <= read


def test_the_chart_has_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]
