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

_OBJECT: dict[str, Any] = {**_PRESERVE, "type": "object"}


def _objects(what: str, item: dict[str, Any] = _OBJECT, most: int = 1000) -> dict[str, Any]:
    """Return the schema of a list; the operator adds to each of those that are named here."""
    return {
        "type": "array",
        "maxItems": most,
        "items": item,
        "description": f"{what}, as in a pod. Default: none.",
    }


_TEXT: dict[str, Any] = {"type": "string", "maxLength": 1024}
_RULES: dict[str, Any] = {"type": "array", "maxItems": 100, "items": _OBJECT}

_LAST_MESSAGE = (_TEXT, "leave it out, since the operator reads the trainer's last message")
_NEW_POD = "leave it out, since each attempt is a new pod"
_THEIRS = {
    "image": (_TEXT, "set spec.trainer.image instead"),
    "imagePullPolicy": (_TEXT, "set spec.trainer.imagePullPolicy instead"),
    "terminationMessagePath": _LAST_MESSAGE,
    "terminationMessagePolicy": _LAST_MESSAGE,
    "restartPolicy": (_TEXT, _NEW_POD),
    "restartPolicyRules": (_RULES, _NEW_POD),
}
"""Fields that only further containers may have, with their type, and what to do instead for the
trainer's."""


def _container(name: str, resources: str, refused: dict[str, str]) -> dict[str, Any]:
    """Return the schema of a container.

    Args:
        name: What to say of its name.
        resources: What to say of its resources beside that they are as in a pod.
        refused: What to say of a field in `_THEIRS` likewise.
    """
    return {
        **_OBJECT,
        "required": ["name"],
        "properties": {
            "name": _NAME | {"description": name},
            **{
                field: kind
                | {"description": f"As in a pod{refused.get(field, '')}. Default: none."}
                for field, (kind, _) in _THEIRS.items()
            },
            "env": _objects("Environment variables"),
            "envFrom": _objects("Sources of environment variables"),
            "volumeMounts": _objects("Where volumes are mounted"),
            "ports": _objects("Ports that the container listens on"),
            "resources": _OBJECT
            | {
                "description": (
                    f"Requests, limits and claims, as in a pod{resources}. Default: none."
                )
            },
            "securityContext": _OBJECT
            | {"description": "Privileges of the container, as in a pod. Default: none."},
        },
    }


_CONTAINER = _container(
    "Name of the container, each once; trainer is the one that trains.",
    "; for the container trainer, spec.trainer.resources wins where both say something",
    {
        field: f"; refused for the container trainer: {instead}"
        for field, (_, instead) in _THEIRS.items()
    },
)
_INIT_CONTAINER = _container(
    "Name of the container: not trainer, and none that another container has.", "", {}
)

_BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}

_ACCOUNT = (_NAME, "leave it out, since each job has an account of its own")
_OVERRULED = {
    "restartPolicy": (_NAME, _NEW_POD),
    "serviceAccountName": _ACCOUNT,
    "serviceAccount": _ACCOUNT,
    "terminationGracePeriodSeconds": (
        {"type": "integer"},
        "set spec.trainer.gracePeriodSeconds instead",
    ),
}
"""Fields of a PodSpec that the operator sets, with their type, and what to do instead."""

_POD_SPEC: dict[str, Any] = {
    **_OBJECT,
    "description": (
        "A PodSpec; kubectl explain pod.spec lists its fields, all of which may be used but those "
        "that are refused here. Default: none."
    ),
    "properties": {
        "containers": _objects(
            "Further containers, and what to add to the trainer's", _CONTAINER, most=16
        )
        | _BY_NAME,
        "initContainers": _objects("Containers that run first", _INIT_CONTAINER, most=16)
        | _BY_NAME,
        "volumes": _objects("Further volumes"),
        "tolerations": _objects("Taints of nodes that the pod may run on"),
        "imagePullSecrets": _objects("Secrets for pulling images"),
        "affinity": _OBJECT | {"description": "Where to run, as in a pod. Default: none."},
        "securityContext": _OBJECT
        | {"description": "Privileges of all containers, as in a pod. Default: none."},
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
        *(
            {
                "rule": (
                    "!has(self.containers) || "
                    f"!self.containers.exists(c, c.name == 'trainer' && has(c.{name}))"
                ),
                "message": (
                    f"{name} of the container trainer in spec.trainer.podTemplate.spec.containers "
                    f"cannot be set: {instead}"
                ),
            }
            for name, (_, instead) in _THEIRS.items()
        ),
        {
            "rule": (
                "!has(self.initContainers) || self.initContainers.all(i, i.name != 'trainer' && "
                "(!has(self.containers) || !self.containers.exists(c, c.name == i.name)))"
            ),
            "message": (
                "a container in spec.trainer.podTemplate.spec.initContainers has the name trainer "
                "or that of one in containers: give it a name of its own"
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
