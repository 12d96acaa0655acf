"""Reading a spec, and saying in one sentence what is wrong with it.

The CRD's schema refuses all of this at `kubectl apply`, but a job may get here past an older one.
So all types and bounds are checked again; of the rules over several fields, and of those on the
job's name, only the ones below are.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json
from rtj_api.builder import Builder
from rtj_api.names import MAX_JOB_NAME_LENGTH, TRAINER_CONTAINER
from rtj_api.spec import JobSpec

from rtj_operator.core import failure_rules
from rtj_operator.core.trainer_config import builder_config

MAX_BUILDER_BYTES = 96 * 1024
"""Linux takes no environment variable longer than 128 KiB, and the trainer's has more in it."""


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
    if "." in job_name:
        return (
            f"metadata.name {job_name!r} has a dot, which the host name of a pod cannot have; "
            "create the job again with '-' instead."
        )
    if (spec.epochs is None) == (spec.total_steps is None):
        return "Set exactly one of spec.epochs and spec.totalSteps."
    if spec.builder.config_map and spec.builder.claim:
        return "Set at most one of spec.builder.configMap and spec.builder.claim."
    if problem := _never_called(spec.builder) or failure_rules.problem_of(spec):
        return problem
    if name := _named_twice(spec.trainer.pod_template):
        return (
            f"spec.trainer.podTemplate.spec.initContainers has a container {name!r}, and a pod has "
            "another of that name: give it a name of its own."
        )
    return _too_large(spec.builder)


def _never_called(builder: Builder) -> str:
    """Say so if the builder has functions that a trainFunction leaves no use for."""
    unused = {
        "callbacksFunction": builder.callbacks_function,
        "validationFunction": builder.validation_function,
    }
    names = [name for name, function in unused.items() if function]
    if not builder.train_function or not names:
        return ""
    return (
        f"spec.builder.trainFunction trains by itself, so nothing would call {' or '.join(names)}; "
        "leave them out, and give callbacks and validation to session.fit() there."
    )


def _named_twice(template: Mapping[str, Any]) -> str:
    """Return the name of an init container that another container has, or an empty string."""
    pod = template.get("spec") or {}
    try:
        taken = {TRAINER_CONTAINER, *(c["name"] for c in pod.get("containers") or [])}
        return next((c["name"] for c in pod.get("initContainers") or [] if c["name"] in taken), "")
    except (AttributeError, KeyError, TypeError):
        return ""  # It is no pod at all, which is said where the pod is made.


def _too_large(builder: Builder) -> str:
    """Say so if the builder's part of the trainer's environment variable is too long.

    A $ counts once: the kubelet takes the one that escapes it away.
    """
    config = builder_config(builder)
    size = len(config.model_dump_json(by_alias=True).encode())
    if size <= MAX_BUILDER_BYTES:
        return ""
    told = config.model_dump(by_alias=True)
    params = {name: len(to_json(told[name])) for name in told if name.endswith("Params")}
    largest = max(params, key=lambda name: params[name])
    return (
        f"spec.builder has {size} bytes, of which spec.builder.{largest} has "
        f"{params[largest]}; at most "
        f"{MAX_BUILDER_BYTES} fit. Put large values into a file beside the builder."
    )


def _sentence(error: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in ("spec", *error["loc"]))
    if error["type"] == "missing":
        return f"{path} is missing."
    return f"{path}: {error['msg']} (it is {error['input']!r:.100})."
