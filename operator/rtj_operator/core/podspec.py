"""From a job's spec to the pod of one attempt.

The user's podTemplate lies under what the operator sets: it may add anything, and may not take away
what the contract or the Pod Security Standard `restricted` needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rtj_api.builder import Builder
from rtj_api.names import (
    BUILDER_MOUNT_PATH,
    CONFIG_ENV,
    HASH_SEED_ENV,
    LABEL_ATTEMPT,
    POD_UID_ENV,
    TRAINER_CONTAINER,
    VOLUME_MOUNT_PATH,
)
from rtj_api.spec import JobSpec

from rtj_operator.core.decision import Manifest
from rtj_operator.core.merge import by_name, laid_over
from rtj_operator.core.objects import account_name, labels, owner_reference
from rtj_operator.core.observed import Job, Settings
from rtj_operator.core.trainer_config import trainer_config

USER_ID = 65532
HASH_SEED = "0"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
UNREACHABLE_TOLERATION_SECONDS = 10
"""The default of 300 s would keep a dead node's pod, and its GPU, on the books."""
PREFERENCE_FOR_ATTACHED = 50
"""Weight of the node that has the volume: half of what keeps a pod away from a bad node."""

Fields = dict[str, Any]

RESTRICTED: Fields = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
"""What the Pod Security Standard wants of a pod, and of a container that says otherwise."""
ALLOWED_SECURITY = ("readOnlyRootFilesystem", "runAsGroup", "runAsUser")
"""What the trainer's container may say beside it: no value of these gives it a privilege, since a
container that runs as root is not started."""

RESTARTS_IN_PLACE = ("restartPolicy", "restartPolicyRules")
"""Fields by which the kubelet would start a trainer again in its pod, though an attempt is one pod
and its exit an end. The CRD refuses them, but not that of a job that is older than this CRD."""


@dataclass(frozen=True)
class Places:
    """Which nodes a pod should rather not, and rather, run on."""

    avoid: Sequence[str] = ()
    """The worst first."""
    prefer: str | None = None


class MalformedTemplateError(ValueError):
    """A podTemplate that the operator cannot add to, as a map is where a list belongs.

    The CRD refuses it, but not that of a job that is older than this CRD.
    """


def pod_name(job_name: str, attempt: int) -> str:
    """Return the name of the pod of an attempt: the same whoever computes it, and when."""
    return f"{job_name}-{attempt}-0"


def pod_manifest(
    job: Job, spec: JobSpec, attempt: int, settings: Settings, places: Places
) -> Manifest:
    """Return the pod of an attempt. Raises MalformedTemplateError."""
    template = spec.trainer.pod_template
    config = trainer_config(job, spec, attempt, settings).to_json()
    try:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": _metadata(job, attempt, template.get("metadata") or {}),
            "spec": _pod_spec(job, spec, config, template.get("spec") or {}, places),
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise MalformedTemplateError(
            "spec.trainer.podTemplate has a value of another type than a pod has there "
            f"({error}). Compare it with `kubectl explain pod.spec --recursive`."
        ) from error


def _metadata(job: Job, attempt: int, under: Fields) -> Fields:
    return {
        "name": pod_name(job.name, attempt),
        "namespace": job.namespace,
        "labels": {**(under.get("labels") or {}), **labels(job), LABEL_ATTEMPT: str(attempt)},
        "annotations": under.get("annotations") or {},
        "ownerReferences": [owner_reference(job)],
    }


def _pod_spec(job: Job, spec: JobSpec, config: str, under: Fields, places: Places) -> Fields:
    containers = list(under.get("containers") or [])
    theirs: Fields = next((c for c in containers if c.get("name") == TRAINER_CONTAINER), {})
    others = [_companion(c) for c in containers if c.get("name") != TRAINER_CONTAINER]
    first = [_companion(c) for c in under.get("initContainers") or []]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **under,
        **({"initContainers": first} if first else {}),
        "restartPolicy": "Never",
        "serviceAccountName": account_name(job),
        "terminationGracePeriodSeconds": spec.trainer.grace_period_seconds,
        "securityContext": _pod_security(under.get("securityContext") or {}),
        "tolerations": _tolerations(under.get("tolerations") or []),
        "affinity": _affinity(under.get("affinity") or {}, places),
        "containers": [_container(spec, config, theirs), *others],
        "volumes": by_name(under.get("volumes") or [], _volumes(spec)),
    }


def _container(spec: JobSpec, config: str, under: Fields) -> Fields:
    trainer = spec.trainer
    env: list[Fields] = [
        # The kubelet expands $(NAME) in values, and takes $$ for an escaped $.
        {"name": CONFIG_ENV, "value": config.replace("$", "$$")},
        {"name": POD_UID_ENV, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
    ]
    ours = {
        "name": TRAINER_CONTAINER,
        "image": trainer.image,
        "imagePullPolicy": trainer.image_pull_policy,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": by_name(_with_hash_seed(under.get("env") or []), env),
        "volumeMounts": by_name(under.get("volumeMounts") or [], _mounts(spec), key="mountPath"),
        "securityContext": _container_security(under.get("securityContext") or {}),
    }
    if trainer.resources:
        ours["resources"] = laid_over(under.get("resources") or {}, trainer.resources)
    kept = {field: value for field, value in under.items() if field not in RESTARTS_IN_PLACE}
    return {**kept, **ours}


def _with_hash_seed(env: list[Fields]) -> list[Fields]:
    """Return some variables, with Python's hash seed if it is not among them."""
    if any(variable.get("name") == HASH_SEED_ENV for variable in env):
        return env
    return [*env, {"name": HASH_SEED_ENV, "value": HASH_SEED}]


def _companion(container: Fields) -> Fields:
    """Return another container, within the Pod Security Standard unless it says otherwise."""
    safe = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {**container, "securityContext": {**safe, **(container.get("securityContext") or {})}}


def _pod_security(under: Fields) -> Fields:
    ours_by_default = {
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    return {**ours_by_default, **under, **RESTRICTED}


def _container_security(under: Fields) -> Fields:
    """What a container says of itself wins over its pod, so both must be told."""
    allowed = {field: value for field, value in under.items() if field in ALLOWED_SECURITY}
    return {
        "readOnlyRootFilesystem": True,
        **allowed,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
        **RESTRICTED,
    }


def _tolerations(under: list[Fields]) -> list[Fields]:
    taken = {toleration.get("key") for toleration in under}
    return [
        *under,
        *(
            {
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": UNREACHABLE_TOLERATION_SECONDS,
            }
            for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
            if key not in taken
        ),
    ]


def _affinity(under: Fields, places: Places) -> Fields:
    if not places.avoid and places.prefer is None:
        return under
    node = under.get("nodeAffinity") or {}
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    wishes = [
        _wish(max(100 // place, 1), "NotIn", name)
        for place, name in enumerate(places.avoid, start=1)
    ]
    if places.prefer:
        wishes.append(_wish(PREFERENCE_FOR_ATTACHED, "In", places.prefer))
    terms = [*(node.get(preferred) or []), *wishes]
    return {**under, "nodeAffinity": {**node, preferred: terms}}


def _wish(weight: int, operator: str, node: str) -> Fields:
    fields = [{"key": "metadata.name", "operator": operator, "values": [node]}]
    return {"weight": weight, "preference": {"matchFields": fields}}


def _volumes(spec: JobSpec) -> list[Fields]:
    claim = {"claimName": spec.checkpoint.claim_name}
    return [
        {"name": "rtj-volume", "persistentVolumeClaim": claim},
        {"name": "rtj-tmp", "emptyDir": {}},
        {"name": "rtj-token", "projected": {"sources": _token_sources()}},
        *_builder_volume(spec.builder),
    ]


def _builder_volume(builder: Builder) -> list[Fields]:
    if builder.config_map:
        return [{"name": "rtj-builder", "configMap": {"name": builder.config_map.name}}]
    if builder.claim:
        claim = {"claimName": builder.claim.name}
        return [{"name": "rtj-builder", "persistentVolumeClaim": claim}]
    return []


def _token_sources() -> list[Fields]:
    """Spell out what a pod mounts by itself when automount is on."""
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    return [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {
            "configMap": {
                "name": "kube-root-ca.crt",
                "items": [{"key": "ca.crt", "path": "ca.crt"}],
            }
        },
        {"downwardAPI": {"items": [namespace]}},
    ]


def _mounts(spec: JobSpec) -> list[Fields]:
    mounts: list[Fields] = [
        {"name": "rtj-volume", "mountPath": VOLUME_MOUNT_PATH},
        {"name": "rtj-tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
        {"name": "rtj-token", "mountPath": TOKEN_PATH, "readOnly": True},
    ]
    builder = spec.builder
    if builder.config_map or builder.claim:
        mount: Fields = {
            "name": "rtj-builder",
            "mountPath": BUILDER_MOUNT_PATH,
            "readOnly": True,
        }
        if builder.claim and builder.claim.path:
            mount["subPath"] = builder.claim.path
        mounts.append(mount)
    return mounts
