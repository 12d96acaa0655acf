"""Schemas of the parts of `spec` that are free JSON in the models: pod fields, as in a PodSpec.

They say no more than what lets the API server tell a typo, or a field that the operator would
overrule, before a pod is made. The whole PodSpec would make the CRD too large to apply.
"""

from typing import Any

_PRESERVE: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}

_QUANTITIES: dict[str, Any] = {
    "type": "object",
    "maxProperties": 32,
    "additionalProperties": {
        "x-kubernetes-int-or-string": True,
        "maxLength": 64,
        "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE]-?[0-9]+)?$",
    },
}

RESOURCES: dict[str, Any] = {
    "properties": {
        "requests": _QUANTITIES | {"description": "What the scheduler reserves. Default: limits."},
        "limits": _QUANTITIES
        | {"description": "What the container may use at most. Default: none."},
    }
}
"""A container's ResourceRequirements."""

_STRINGS: dict[str, Any] = {
    "type": "object",
    "maxProperties": 64,
    "additionalProperties": {"type": "string", "maxLength": 16384},
}

_NAME: dict[str, Any] = {"type": "string", "maxLength": 253}

_CONTAINER: dict[str, Any] = {
    **_PRESERVE,
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": _NAME | {"description": "Name of the container; trainer is the one that trains."},
        "image": {
            "type": "string",
            "maxLength": 1024,
            "description": (
                "Image of a further container; the trainer's is in spec.trainer.image. "
                "Default: none."
            ),
        },
    },
}

_OVERRULED = {
    "restartPolicy": (_NAME, "leave it out, since each attempt is a new pod"),
    "serviceAccountName": (_NAME, "leave it out, since each job has an account of its own"),
    "terminationGracePeriodSeconds": (
        {"type": "integer"},
        "set spec.trainer.gracePeriodSeconds instead",
    ),
}
"""Fields of a PodSpec that the operator sets, with their type, and what to do instead."""

_POD_SPEC: dict[str, Any] = {
    **_PRESERVE,
    "type": "object",
    "description": (
        "A PodSpec; kubectl explain pod.spec lists its fields, all of which may be used but those "
        "that are refused here. Default: none."
    ),
    "properties": {
        "containers": {
            "type": "array",
            "maxItems": 16,
            "description": "Further containers, and what to add to the trainer's. Default: none.",
            "items": _CONTAINER,
        },
        **{
            name: kind | {"description": f"Refused: {instead}. Default: none."}
            for name, (kind, instead) in _OVERRULED.items()
        },
    },
    "x-kubernetes-validations": [
        *(
            {
                "rule": f"!has(self.{name})",
                "message": f"spec.trainer.podTemplate.spec.{name} cannot be set: {instead}",
            }
            for name, (_, instead) in _OVERRULED.items()
        ),
        {
            "rule": (
                "!has(self.containers) || "
                "!self.containers.exists(c, c.name == 'trainer' && has(c.image))"
            ),
            "message": (
                "the image of the container trainer in spec.trainer.podTemplate.spec.containers "
                "cannot be set: set spec.trainer.image instead"
            ),
        },
    ],
}

POD_TEMPLATE: dict[str, Any] = {
    "properties": {
        "metadata": {
            "type": "object",
            "description": "Labels and annotations to add to the pod. Default: none.",
            "properties": {
                "labels": _STRINGS | {"description": "Labels to add. Default: none."},
                "annotations": _STRINGS | {"description": "Annotations to add. Default: none."},
            },
        },
        "spec": _POD_SPEC,
    }
}
"""A PodTemplateSpec."""
