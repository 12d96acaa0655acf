"""The pod of an attempt: the user's template under what the operator must have."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from rtj_api.checkpoint import CheckpointPolicy
from rtj_api.launch import TrainerConfig
from rtj_api.names import CONFIG_ENV, LABEL_ATTEMPT, LABEL_JOB, Cause, Reason
from rtj_api.spec import JobSpec
from rtj_api.status import EndedAttempt, JobStatus
from rtj_operator.core.decision import CreatePod
from rtj_operator.core.observed import Job, Settings
from rtj_operator.core.podspec import Places, pod_manifest

from tests.unit.operator_looks import NOW, commit, decided, look, spec

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


def manifest(job_spec: JobSpec, avoid: Sequence[str] = (), **status: Any) -> dict[str, Any]:
    job = Job("ns", "job", "uid", 1, JobStatus(**status), job_spec)
    return pod_manifest(job, job_spec, 3, Settings(), Places(avoid))


def trainer(pod: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in pod["spec"]["containers"] if c["name"] == "trainer")


def template(**fields: Any) -> JobSpec:
    return spec(trainer={"image": "trainer:1", "podTemplate": fields})


def named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["name"] == name)


def test_it_satisfies_the_restricted_pod_security_standard_whatever_the_template_says() -> None:
    asks = {
        "privileged": True,
        "allowPrivilegeEscalation": True,
        "capabilities": {"add": ["SYS_PTRACE"], "drop": ["NET_RAW"]},
        "procMount": "Unmasked",
        "seLinuxOptions": {"type": "spc_t"},
        "appArmorProfile": {"type": "Unconfined"},
        "seccompProfile": {"type": "Localhost", "localhostProfile": "mine.json"},
        "windowsOptions": {"hostProcess": True},
    }
    pod = manifest(
        template(
            spec={
                "securityContext": {"runAsNonRoot": False, "runAsUser": 1000},
                "containers": [{"name": "trainer", "securityContext": asks}],
            }
        )
    )
    security = pod["spec"]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["runAsUser"] == 1000
    assert trainer(pod)["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_the_pages_name_the_user_of_the_trainer_and_how_to_have_another() -> None:
    user = manifest(spec())["spec"]["securityContext"]["runAsUser"]
    page = (ROOT / "docs" / "operator.md").read_text()
    section = page.split("## The trainer's user, and where it may write\n")[1].split("\n## ")[0]
    description = CheckpointPolicy.model_fields["claim_name"].description or ""
    image = (ROOT / "trainer" / "Dockerfile").read_text()
    assert f"user and group {user}, " in section
    assert f"`chown {user}:{user}`" in section
    assert f"user, {user} unless" in description
    assert f"USER {user}:{user}\n" in image

    shown = yaml.safe_load(section.split("```yaml\n")[1].split("```")[0])["spec"]["trainer"]
    other = manifest(template(**shown["podTemplate"]))["spec"]["securityContext"]
    assert {other[name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {1000}
    assert other["runAsNonRoot"] is True


def test_the_trainer_is_told_everything_even_with_dollars_in_it() -> None:
    params = {"path": "$(HOME)/x", "price": "$$5", "n": 3}
    tricky = spec(builder={"configMap": {"name": "code"}, "datasetParams": params})
    value = named(trainer(manifest(tricky, last_commit=commit(40)))["env"], CONFIG_ENV)["value"]
    assert "$(HOME)" not in value.replace("$$", "")
    config = TrainerConfig.model_validate_json(value.replace("$$", "$"))
    assert config.builder.dataset_params == params
    assert (config.attempt, config.expected_step, config.total_steps) == (3, 40, 100)
    assert config.lease
    assert (config.lease.namespace, config.lease.name) == ("ns", "job")


def test_sets_have_the_same_order_in_each_attempt_and_the_template_may_say_which() -> None:
    image = (ROOT / "trainer" / "Dockerfile").read_text()
    assert "PYTHONHASHSEED=0 " in image
    assert named(trainer(manifest(spec()))["env"], "PYTHONHASHSEED")["value"] == "0"
    own = {"name": "PYTHONHASHSEED", "value": "42"}
    pod = manifest(template(spec={"containers": [{"name": "trainer", "env": [own]}]}))
    assert [item for item in trainer(pod)["env"] if item["name"] == "PYTHONHASHSEED"] == [own]


SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}


def test_the_template_may_add_anything() -> None:
    pod = manifest(
        template(
            metadata={"labels": {"team": "a", LABEL_ATTEMPT: "99"}, "annotations": {"x": "y"}},
            spec={
                "nodeSelector": {"pool": "gpu"},
                "priorityClassName": "low",
                "schedulerName": "gang",
                "topologySpreadConstraints": [SPREAD],
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "volumes": [{"name": "data", "emptyDir": {}}],
                "containers": [
                    {
                        "name": "trainer",
                        "env": [{"name": "A", "value": "b"}, {"name": CONFIG_ENV, "value": "no"}],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    },
                    {"name": "side", "image": "side:1"},
                ],
            },
        )
    )
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["labels"][LABEL_ATTEMPT] == "3"
    assert pod["metadata"]["labels"][LABEL_JOB] == "job"
    assert pod["metadata"]["annotations"] == {"x": "y"}
    assert pod["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert pod["spec"]["priorityClassName"] == "low"
    assert pod["spec"]["schedulerName"] == "gang"
    assert pod["spec"]["topologySpreadConstraints"] == [SPREAD]
    assert {"key": "gpu", "operator": "Exists"} in pod["spec"]["tolerations"]
    assert named(pod["spec"]["containers"], "side")["image"] == "side:1"
    container = trainer(pod)
    assert named(container["env"], "A")["value"] == "b"
    assert named(container["env"], CONFIG_ENV)["value"] != "no"
    assert {m["mountPath"] for m in container["volumeMounts"]} >= {"/data", "/var/lib/rtj"}
    assert {v["name"] for v in pod["spec"]["volumes"]} >= {"data", "rtj-volume"}


def test_what_the_operator_only_prefers_the_template_may_say_otherwise() -> None:
    claim = {"claims": [{"name": "gpu"}], "limits": {"cpu": 1, "memory": "1Gi"}}
    own = {"readOnlyRootFilesystem": False, "runAsUser": 1000, "runAsGroup": 1000}
    under = {
        "automountServiceAccountToken": True,
        "enableServiceLinks": True,
        "containers": [{"name": "trainer", "resources": claim, "securityContext": own}],
    }
    resources = {"limits": {"cpu": 2}}
    pod = manifest(
        spec(trainer={"image": "i", "podTemplate": {"spec": under}, "resources": resources})
    )
    assert pod["spec"]["automountServiceAccountToken"] is True
    assert pod["spec"]["enableServiceLinks"] is True
    assert trainer(pod)["securityContext"].items() >= own.items()
    assert trainer(pod)["resources"] == {**claim, "limits": {"cpu": 2, "memory": "1Gi"}}
    usual = manifest(spec())["spec"]
    assert (usual["automountServiceAccountToken"], usual["enableServiceLinks"]) == (False, False)


def test_the_kubelet_restarts_no_trainer_in_place_but_other_containers_as_they_ask() -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}
    asks = {"restartPolicy": "Never", "restartPolicyRules": [rule]}
    names = ("trainer", "side")
    spec = manifest(template(spec={"containers": [{"name": name, **asks} for name in names]}))
    restarts = asks.keys() & trainer(spec).keys()
    assert not restarts
    assert named(spec["spec"]["containers"], "side").items() >= asks.items()


def test_other_containers_have_no_privileges_but_those_that_they_ask_for() -> None:
    asks = {"capabilities": {"add": ["SYS_PTRACE"]}}
    pod = manifest(
        template(
            spec={
                "initContainers": [{"name": "first", "image": "i"}],
                "containers": [{"name": "side", "image": "i", "securityContext": asks}],
            }
        )
    )
    safe = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert named(pod["spec"]["initContainers"], "first")["securityContext"] == safe
    assert named(pod["spec"]["containers"], "side")["securityContext"] == {**safe, **asks}
    assert "initContainers" not in manifest(spec())["spec"]


def test_a_builder_on_a_claim_is_mounted_read_only_from_its_folder() -> None:
    on_claim = spec(builder={"claim": {"name": "code", "path": "a/b"}})
    mount = named(trainer(manifest(on_claim))["volumeMounts"], "rtj-builder")
    assert (mount["readOnly"], mount["subPath"]) == (True, "a/b")


def test_a_builder_in_the_image_needs_no_mount() -> None:
    pod = manifest(spec(builder={}))
    assert "rtj-builder" not in json.dumps(pod)
    value = named(trainer(pod)["env"], CONFIG_ENV)["value"]
    assert json.loads(value)["builder"]["path"] is None


def test_a_dead_nodes_pod_does_not_stay_on_the_books_for_five_minutes() -> None:
    tolerations = manifest(spec())["spec"]["tolerations"]
    assert {t["key"]: t["tolerationSeconds"] for t in tolerations} == {
        "node.kubernetes.io/not-ready": 10,
        "node.kubernetes.io/unreachable": 10,
    }


@pytest.mark.parametrize(
    ("cause", "reason", "avoided"),
    [
        (Cause.PREEMPTED, Reason.NODE_LOST, True),
        (Cause.HUNG, Reason.TRAINER_HUNG, True),
        (Cause.PREEMPTED, Reason.POD_DELETED, False),
        (Cause.USER_ERROR, Reason.TRAINER_FAILED, False),
    ],
)
def test_only_a_node_that_is_to_blame_is_avoided(
    cause: Cause, reason: Reason, avoided: bool
) -> None:
    assert avoids(lost("bad", 0, cause=cause, reason=reason)) == ({"bad": 100} if avoided else {})


def test_what_a_rule_says_to_recreate_goes_to_another_node() -> None:
    def rule(action: str) -> dict[str, int]:
        fields = {"cause": Cause.USER_ERROR, "reason": Reason.TRAINER_FAILED}
        return avoids(lost("bad", 0, rule_action=action, **fields))

    assert rule("Recreate") == {"bad": 100}
    assert rule("Count") == {}


def test_of_nodes_that_failed_the_last_is_avoided_most_and_old_failures_are_forgotten() -> None:
    history = [lost("a", 700), lost("b", 500), lost("c", 400), lost("b", 300), lost("d", 20)]
    assert avoids(*history) == {"d": 100, "b": 50, "c": 33}


def lost(node: str, seconds_ago: float, **fields: Any) -> EndedAttempt:
    end = NOW - timedelta(seconds=seconds_ago)
    ending = {"cause": Cause.PREEMPTED, "reason": Reason.NODE_LOST, **fields}
    return EndedAttempt(number=1, node_name=node, start_time=end, end_time=end, **ending)


def avoids(*attempts: EndedAttempt) -> dict[str, int]:
    """Return the weight with which the next pod avoids each node."""
    decision = decided(look(status=JobStatus(attempts=list(attempts))))
    (create,) = [a for a in decision.actions if isinstance(a, CreatePod)]
    node_affinity = create.manifest["spec"]["affinity"].get("nodeAffinity", {})
    terms = node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])
    return {term["preference"]["matchFields"][0]["values"][0]: term["weight"] for term in terms}
