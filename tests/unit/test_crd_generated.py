"""What is generated from the models: up to date, complete, and in step with the models."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rtj_api import crd
from rtj_api.names import Phase
from rtj_api.schema import fields
from rtj_api.spec import JobSpec

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
GENERATED = [
    Path("crds") / f"{crd.NAME}.yaml",
    Path("charts/rtj-operator/files") / f"{crd.NAME}.yaml",
    Path("docs/api.md"),
]
MINIMAL: dict[str, Any] = {
    "builder": {},
    "checkpoint": {"claimName": "work"},
    "trainer": {"image": "i"},
}


def generate(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the generator that lies under `root`."""
    return subprocess.run(
        [sys.executable, root / "crds" / "generate.py", *args],
        capture_output=True,
        text=True,
        check=False,
    )


def spec_fields() -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Return every field of spec."""
    return fields(crd.job_schema()["properties"]["spec"], "spec")


def test_the_files_in_the_repository_follow_from_the_models() -> None:
    done = generate(ROOT, "--check")
    assert done.returncode == 0, f"run `make generate`:\n{done.stdout}{done.stderr}"


def test_a_hand_edit_of_a_generated_file_is_found_and_mended(tmp_path: Path) -> None:
    for path in [Path("crds/generate.py"), *GENERATED]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    edited = tmp_path / GENERATED[1]
    edited.write_text(edited.read_text().replace("maximum: 1000000", "maximum: 7"))

    found = generate(tmp_path, "--check")
    assert found.returncode == 1
    assert "-                maximum: 7" in found.stdout
    assert "maximum: 7" in edited.read_text(), "--check writes nothing"

    assert generate(tmp_path).returncode == 0
    assert edited.read_text() == (ROOT / GENERATED[1]).read_text()
    assert generate(tmp_path, "--check").returncode == 0


def test_the_yaml_says_what_the_models_say() -> None:
    assert yaml.safe_load((ROOT / GENERATED[0]).read_text()) == crd.manifest()


def test_nothing_that_a_structural_schema_forbids_is_left() -> None:
    text = json.dumps(crd.manifest())
    for forbidden in (
        '"$ref"',
        '"$defs"',
        '"anyOf"',
        '"title"',
        '"const"',
        '"additionalProperties": false',
    ):
        assert forbidden not in text


def said_by_rules(node: Any) -> Iterator[str]:
    """Return the message of every rule, wherever in the schema it is."""
    if isinstance(node, dict):
        yield from (rule["message"] for rule in node.get("x-kubernetes-validations", []))
        node = list(node.values())
    for child in node if isinstance(node, list) else []:
        yield from said_by_rules(child)


def test_the_docs_have_every_rule_that_the_api_server_checks() -> None:
    rules = (ROOT / "docs/api.md").read_text().partition("## Rules that the API server checks")[2]
    told = re.findall(r"^- `.*?`: (.*)\.$", rules, re.MULTILINE)
    assert sorted(told) == sorted(said_by_rules(crd.job_schema()))
    assert (
        "- `spec.trainer.podTemplate.spec`: spec.trainer.podTemplate.spec.restartPolicy " in rules
    )


def test_every_field_is_described() -> None:
    schema = crd.job_schema()["properties"]
    for part in ("spec", "status"):
        for path, field, _ in fields(schema[part], part):
            assert len(field.get("description", "")) > 10, path


def test_every_field_that_may_be_left_out_says_its_default_and_the_true_one() -> None:
    for path, field, required in spec_fields():
        if required or "Exactly one of" in field["description"]:
            continue
        said = re.search(r"Default: (\{\}|[^,.]+)", field["description"])
        assert said, path
        default = field.get("default")
        if default is not None and default != "":
            expected = json.dumps(default) if not isinstance(default, str) else default
            assert said.group(1) == expected, path


def test_all_parameters_say_what_kubectl_does_to_them() -> None:
    told = {path: field["description"] for path, field, _ in spec_fields()}
    params = {path for path in told if path.endswith("Params")}
    assert len(params) == 6
    assert all("kubectl drops a null and turns 1.0 into 1." in told[path] for path in params)


def test_every_string_list_and_map_of_spec_is_bounded() -> None:
    """Without bounds the API server cannot tell what a rule costs, and refuses it."""
    bound = {"string": "maxLength", "array": "maxItems"}
    for path, field, _ in spec_fields():
        keyword = bound.get(field.get("type", ""))
        assert keyword is None or keyword in field or "enum" in field, path
        if "additionalProperties" in field:
            assert "maxProperties" in field, path


def test_the_defaults_of_the_schema_are_those_of_the_models() -> None:
    parsed = JobSpec.model_validate(MINIMAL).model_dump(by_alias=True)
    checked = 0
    for path, field, _ in spec_fields():
        default = field.get("default")
        if default in (None, {}, []) or "[]" in path:
            continue  # no default, or one inside a list that the minimal spec leaves out
        value: Any = parsed
        for name in path.split(".")[1:]:
            value = None if value is None else value[name]
        if value is not None:  # inside an object that the minimal spec leaves out
            assert value == default, path
            checked += 1
    assert checked >= 10


def test_status_accepts_the_words_of_a_newer_operator_and_invents_none() -> None:
    status = crd.job_schema()["properties"]["status"]
    assert "enum" not in json.dumps(status)
    assert '"default"' not in json.dumps(status)
    for word in Phase:
        assert word.value in status["properties"]["phase"]["description"]
