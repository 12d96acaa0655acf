"""The CustomResourceDefinition of ResumableTrainingJob, as the API server takes it."""

from dataclasses import asdict
from typing import Any

from rtj_api.names import GROUP, KIND, PLURAL, SHORT_NAME, SINGULAR, VERSION
from rtj_api.rules import RULES, Rule
from rtj_api.schema import Schema, structural, with_open_enums, with_whole_parts, without_defaults
from rtj_api.spec import JobSpec
from rtj_api.status import JobStatus

NAME = f"{PLURAL}.{GROUP}"

_PRINTER_COLUMNS = [
    ("State", "string", ".status.phase"),
    ("Progress", "string", ".status.progress"),
    ("Step", "integer", ".status.position.step"),
    ("Restarts", "integer", ".status.restarts.total"),
    ("Checkpoint", "date", ".status.lastCommit.time"),
    ("Age", "date", ".metadata.creationTimestamp"),
]

_WIDE_COLUMNS = [
    ("Goodput", "string", ".status.goodput"),
    # As a date it would be shown as an age, which a time to come does not have.
    ("ETA", "string", ".status.estimatedCompletionTime"),
]


def manifest() -> dict[str, Any]:
    """Return the whole CustomResourceDefinition, as plain data for YAML."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": job_schema()},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path}
                        for name, kind, path in _PRINTER_COLUMNS
                    ]
                    + [
                        {"name": name, "type": kind, "jsonPath": path, "priority": 1}
                        for name, kind, path in _WIDE_COLUMNS
                    ],
                }
            ],
        },
    }


def job_schema() -> Schema:
    """Return the structural schema of a whole job, rules included."""
    spec = structural(JobSpec)
    status = with_whole_parts(with_open_enums(without_defaults(structural(JobStatus))))
    schema: Schema = {
        "description": spec["description"],
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of this schema."},
            "kind": {"type": "string", "description": f"Always {KIND}."},
            "metadata": {"type": "object"},
            "spec": {**spec, "description": "What to train, on what, and when to give up."},
            "status": {**status, "description": "What the operator decided and saw. Read only."},
        },
    }
    for path, rules in RULES.items():
        _attach(schema, path, rules)
    return schema


def _attach(schema: Schema, path: str, rules: list[Rule]) -> None:
    target = schema
    for name in path.split(".") if path else []:
        target = target["properties"][name.removesuffix("[]")]
        target = target["items"] if name.endswith("[]") else target
    target["x-kubernetes-validations"] = [asdict(rule) for rule in rules]
