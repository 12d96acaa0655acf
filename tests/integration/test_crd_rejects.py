"""What a user can get wrong is refused by a real API server, with a message that helps."""

import copy
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rtj_api.names import MAX_JOB_NAME_LENGTH
from rtj_api.rules import RULES
from rtj_devcluster import kubebox

from tests.integration.crd_install import install_crd

pytestmark = pytest.mark.integration

LEFT_OUT = object()
JOB: dict[str, Any] = {
    "apiVersion": "resumable.training/v1alpha1",
    "kind": "ResumableTrainingJob",
    "metadata": {"name": "job"},
    "spec": {
        "epochs": 2,
        "builder": {
            "configMap": {"name": "code"},
            "datasetParams": {"batch": 32, "deep": {"a": 1}},
        },
        "checkpoint": {"claimName": "work"},
        "trainer": {"image": "docker.io/library/rtj-trainer:dev"},
    },
}
POD_SPEC = "spec.trainer.podTemplate.spec"
RESOURCES = "spec.trainer.resources"

Apply = Callable[[dict[str, Any]], subprocess.CompletedProcess[str]]


def job(**changes: Any) -> dict[str, Any]:
    """Return a valid job with changes by dotted path."""
    changed = copy.deepcopy(JOB)
    for path, value in changes.items():
        *parents, last = path.split(".")
        target = changed
        for name in parents:
            target = target.setdefault(name, {})
        if value is LEFT_OUT:
            del target[last]
        else:
            target[last] = value
    return changed


@pytest.fixture(scope="module")
def installed(kube_apiserver: Path) -> list[str]:
    """The kubectl of an API server that has the CRD."""
    install_crd(kube_apiserver)
    return [str(kubebox.binary("kubectl")), f"--kubeconfig={kube_apiserver}"]


@pytest.fixture
def try_out(installed: list[str]) -> Apply:
    """`kubectl apply` of one object that the server checks but does not keep."""
    return lambda manifest: run_apply(installed, manifest, "--dry-run=server")


@pytest.fixture
def apply(installed: list[str], namespace: str) -> Iterator[Apply]:
    """`kubectl apply` of one object, as a user runs it; no job is left afterwards."""
    command = [*installed, "--namespace", namespace]
    yield lambda manifest: run_apply(command, manifest)
    subprocess.run([*command, "delete", "rtj", "--all"], check=True, capture_output=True)


def run_apply(
    command: list[str], manifest: dict[str, Any], *flags: str
) -> subprocess.CompletedProcess[str]:
    """Run `kubectl apply`, which may fail."""
    return subprocess.run(
        [*command, "apply", "--filename=-", *flags],
        input=json.dumps(manifest),
        capture_output=True,
        text=True,
        check=False,
    )


def message_of(path: str, index: int) -> str:
    """Return the message of a rule."""
    return RULES[path][index].message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Rules over several fields.
        ({"spec.totalSteps": 5}, message_of("spec", 0)),
        ({"spec.epochs": LEFT_OUT}, message_of("spec", 0)),
        ({"spec.builder.claim": {"name": "code"}}, message_of("spec.builder", 1)),
        ({"spec.builder.module": "builder.py"}, "not of a file: leave out '.py'"),
        (
            {
                "spec.builder.configMap": LEFT_OUT,
                "spec.builder.claim": {"name": "code", "path": "a/../.."},
            },
            "spec.builder.claim.path must stay inside the claim",
        ),
        (
            {"metadata.name": "a" * (MAX_JOB_NAME_LENGTH + 1)},
            "metadata.name is too long: use at most",
        ),
        ({"metadata.name": "a.b"}, "metadata.name has a dot"),
        # What the operator would overrule.
        ({f"{POD_SPEC}.restartPolicy": "Always"}, f"{POD_SPEC}.restartPolicy cannot be set"),
        ({f"{POD_SPEC}.serviceAccountName": "me"}, "each job has an account of its own"),
        (
            {f"{POD_SPEC}.terminationGracePeriodSeconds": 5},
            "set spec.trainer.gracePeriodSeconds instead",
        ),
        (
            {f"{POD_SPEC}.containers": [{"name": "trainer", "image": "x"}]},
            "set spec.trainer.image instead",
        ),
        ({f"{POD_SPEC}.containers": [{"image": "x"}]}, "containers[0].name: Required value"),
        # Fields that are missing.
        ({"spec": LEFT_OUT}, "spec: Required value"),
        ({"spec.builder": LEFT_OUT}, "spec.builder: Required value"),
        ({"spec.checkpoint.claimName": LEFT_OUT}, "spec.checkpoint.claimName: Required value"),
        ({"spec.trainer.image": LEFT_OUT}, "spec.trainer.image: Required value"),
        # Typos, at every depth that the schema knows.
        ({"spec.epoch": 2}, 'unknown field "spec.epoch"'),
        ({"spec.builder.datasetParam": {}}, 'unknown field "spec.builder.datasetParam"'),
        ({"spec.runPolicy.backofLimit": 2}, 'unknown field "spec.runPolicy.backofLimit"'),
        ({f"{RESOURCES}.limit": {}}, f'unknown field "{RESOURCES}.limit"'),
        ({"spec.trainer.podTemplate.sepc": {}}, 'unknown field "spec.trainer.podTemplate.sepc"'),
        ({"spec.trainer.podTemplate.metadata.name": "x"}, "podTemplate.metadata.name"),
        # Values out of bounds, zero and empty included.
        ({"spec.epochs": 0}, "spec.epochs: Invalid value: 0"),
        ({"spec.epochs": LEFT_OUT, "spec.totalSteps": 0}, "spec.totalSteps: Invalid value: 0"),
        ({"spec.seed": -1}, "spec.seed: Invalid value: -1"),
        ({"spec.seed": 2**31}, "spec.seed: Invalid value"),
        ({"spec.checkpoint.claimName": ""}, "spec.checkpoint.claimName"),
        ({"spec.checkpoint.claimName": "Work_1"}, "spec.checkpoint.claimName"),
        ({"spec.checkpoint.claimName": "a..b"}, "spec.checkpoint.claimName"),
        ({"spec.checkpoint.everySteps": 0}, "spec.checkpoint.everySteps"),
        ({"spec.checkpoint.everySeconds": 0}, "spec.checkpoint.everySeconds"),
        ({"spec.checkpoint.keep": 1}, "spec.checkpoint.keep"),
        ({"spec.trainer.image": " "}, "spec.trainer.image"),
        ({"spec.trainer.imagePullPolicy": "always"}, 'supported values: "Always", "IfNotPresent"'),
        ({"spec.trainer.gracePeriodSeconds": 0}, "spec.trainer.gracePeriodSeconds"),
        ({"spec.runPolicy.backoffLimit": -1}, "spec.runPolicy.backoffLimit"),
        ({"spec.runPolicy.activeDeadlineSeconds": 0}, "spec.runPolicy.activeDeadlineSeconds"),
        ({"spec.runPolicy.ttlSecondsAfterFinished": -1}, "spec.runPolicy.ttlSecondsAfterFinished"),
        (
            {"spec.failurePolicy.maxNoProgressRestarts": 0},
            "spec.failurePolicy.maxNoProgressRestarts",
        ),
        ({"spec.hangPolicy.trainingTimeoutSeconds": 9}, "spec.hangPolicy.trainingTimeoutSeconds"),
        ({"spec.builder.module": "my-module"}, "spec.builder.module"),
        ({"spec.builder.datasetFunction": "make data"}, "spec.builder.datasetFunction"),
        ({"spec.builder.configMap.name": "Code"}, "spec.builder.configMap.name"),
        ({f"{RESOURCES}.limits": {"memory": "2 GB"}}, f"{RESOURCES}.limits.memory"),
        (
            {"spec.builder.datasetParams": {f"p{i}": i for i in range(65)}},
            "spec.builder.datasetParams: Too many",
        ),
        # Values of the wrong type.
        ({"spec.epochs": "2"}, "spec.epochs"),
        ({"spec.epochs": 2.5}, "spec.epochs"),
        ({"spec.runPolicy.suspend": "yes"}, "spec.runPolicy.suspend"),
        ({"spec.builder.datasetParams": [1]}, "spec.builder.datasetParams"),
        ({"spec.builder.configMap": "code"}, "spec.builder.configMap"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_a_mistake_is_refused_with_the_field_and_the_mend(
    try_out: Apply, changes: dict[str, Any], message: str
) -> None:
    done = try_out(job(**changes))
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata.name": "a" * MAX_JOB_NAME_LENGTH},
        {"spec.builder": {}},
        {"spec.epochs": LEFT_OUT, "spec.totalSteps": 1},
        {"spec.epochs": None, "spec.totalSteps": 1},
        {
            "spec.builder.configMap": LEFT_OUT,
            "spec.builder.claim": {"name": "code", "path": "models/..v2/x"},
        },
        {"spec.builder.module": "my_project.flights.builder"},
        {"spec.checkpoint": {"claimName": "work.v1", "everySteps": 100, "everySeconds": 30}},
        {f"{RESOURCES}.limits": {"nvidia.com/gpu": 1, "memory": "1.5Gi", "cpu": "250m"}},
        {f"{POD_SPEC}.containers": [{"name": "trainer", "env": []}, {"name": "b", "image": "x"}]},
        {f"{POD_SPEC}.tolerations": [{"operator": "Exists"}]},
        {"spec.trainer.podTemplate.metadata.labels": {"team": "wind"}},
    ],
    ids=lambda value: " ".join(value),
)
def test_what_is_right_is_accepted(try_out: Apply, changes: dict[str, Any]) -> None:
    done = try_out(job(**changes))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spec.seed": 1}, message_of("spec.seed", 0)),
        ({"spec.checkpoint.claimName": "other"}, message_of("spec.checkpoint.claimName", 0)),
        ({"spec.builder.configMap.name": "other"}, message_of("spec.builder", 0)),
        ({"spec.builder.module": "other"}, message_of("spec.builder", 0)),
        ({"spec.builder.datasetParams.deep.a": 2}, message_of("spec.builder", 0)),
        ({"spec.builder.datasetParams": LEFT_OUT}, message_of("spec.builder", 0)),
        ({"spec.builder.modelParams": {"units": 2}}, message_of("spec.builder", 0)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_what_the_trajectory_depends_on_cannot_change(
    apply: Apply, changes: dict[str, Any], message: str
) -> None:
    assert apply(job()).returncode == 0
    done = apply(job(**changes))
    assert done.returncode != 0
    assert message in done.stderr


def test_what_only_steers_the_run_can_change(apply: Apply) -> None:
    assert apply(job()).returncode == 0
    done = apply(
        job(
            **{
                "spec.epochs": 3,
                "spec.checkpoint.everySteps": 10,
                "spec.checkpoint.keep": 5,
                "spec.trainer.image": "docker.io/library/rtj-trainer:next",
                f"{RESOURCES}.limits": {"cpu": 2},
                f"{POD_SPEC}.nodeSelector": {"pool": "spot"},
                "spec.runPolicy.suspend": True,
                "spec.hangPolicy.trainingTimeoutSeconds": 60,
            }
        )
    )
    assert done.returncode == 0, done.stderr
    assert "configured" in done.stdout
    switched = apply(job(**{"spec.epochs": LEFT_OUT, "spec.totalSteps": 9}))
    assert switched.returncode == 0, switched.stderr
