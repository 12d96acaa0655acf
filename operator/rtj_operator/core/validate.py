"""Reading a spec, and saying in one sentence what is wrong with it.

The CRD's schema refuses most of this at `kubectl apply`. A job may still get here past an older
schema, so nothing is assumed.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from rtj_api.names import MAX_JOB_NAME_LENGTH
from rtj_api.spec import JobSpec

from rtj_operator.core import failure_rules

MAX_PARAMS_BYTES = 96 * 1024
"""Linux takes no environment variable longer than 128 KiB."""


def parse_spec(job_name: str, raw: Mapping[str, Any]) -> tuple[JobSpec | None, str]:
    """Return the spec and an empty string, or None and what to mend."""
    try:
        spec = JobSpec.model_validate(raw)
    except ValidationError as error:
        return None, "; ".join(_sentence(dict(e)) for e in error.errors()[:3])
    problem = _across_fields(job_name, spec)
    return (None, problem) if problem else (spec, "")


def _across_fields(job_name: str, spec: JobSpec) -> str:
    if len(job_name) > MAX_JOB_NAME_LENGTH:
        return (
            f"metadata.name {job_name!r} has {len(job_name)} characters; "
            f"at most {MAX_JOB_NAME_LENGTH} leave room for the pods' names."
        )
    if (spec.epochs is None) == (spec.total_steps is None):
        return "Set exactly one of spec.epochs and spec.totalSteps."
    if spec.builder.config_map and spec.builder.claim:
        return "Set at most one of spec.builder.configMap and spec.builder.claim."
    if problem := failure_rules.problem_of(spec):
        return problem
    size = len(spec.builder.model_dump_json())
    if size > MAX_PARAMS_BYTES:
        return (
            f"spec.builder.datasetParams and modelParams have {size} bytes, at most "
            f"{MAX_PARAMS_BYTES} fit. Put large values into a file beside the builder."
        )
    return ""


def _sentence(error: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in ("spec", *error["loc"]))
    if error["type"] == "missing":
        return f"{path} is missing."
    return f"{path}: {error['msg']} (it is {error['input']!r:.100})."
