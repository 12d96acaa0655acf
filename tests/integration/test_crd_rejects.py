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
from rtj_operator.core.validate import parse_spec

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
CONTAINERS = f"{POD_SPEC}.containers"
RESOURCES = "spec.trainer.resources"
NEW_POD = "leave it out, since each attempt is a new pod"
RESTART_AT_42 = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}

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
        ({"spec.builder.module": "project.builder"}, "a ConfigMap has no folders for packages"),
        ({"spec.builder.batchParams": {"a": 1}}, "set spec.builder.batchFunction"),
        ({"spec.builder.batchFunction": "f"}, "set spec.dataset.cache, or call the function"),
        ({"spec.dataset.cache": {}}, "spec.dataset.cache.batchSize: Required value"),
        ({"spec.dataset.cache": {"batchSize": 0}}, "greater than or equal to 1"),
        (
            {"spec.dataset.cache": {"batchSize": 1, "maxSize": "10 GB"}},
            "spec.dataset.cache.maxSize",
        ),
        ({"spec.dataset.cache": {"batchSize": 1, "url": "redis"}}, "spec.dataset.cache.url"),
        ({"spec.builder.callbacksParams": {"a": 1}}, "set spec.builder.callbacksFunction"),
        ({"spec.builder.validationParams": {"a": 1}}, "set spec.builder.validationFunction"),
        ({"spec.builder.trainParams": {"a": 1}}, "set spec.builder.trainFunction"),
        *(
            ({"spec.builder.trainFunction": "train", f"spec.builder.{field}": value}, words)
            for field, value, words in [
                ("callbacksFunction", "stop", "nothing would call callbacksFunction"),
                ("validationFunction", "held_out", "give callbacks and validation to session.fit"),
                ("modelFunction", "build", "nothing would call modelFunction"),
                ("modelParams", {"a": 1}, "give the parameters in trainParams"),
            ]
        ),
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
        *(
            ({f"{POD_SPEC}.containers": [{"name": "trainer", field: "Never"}]}, mend)
            for field, mend in [
                ("imagePullPolicy", "set spec.trainer.imagePullPolicy instead"),
                ("terminationMessagePath", "the operator reads the trainer's last message"),
                ("terminationMessagePolicy", "the operator reads the trainer's last message"),
            ]
        ),
        *(
            (
                {f"{POD_SPEC}.containers": [{"name": "trainer", **fields}]},
                f"{field} of the container trainer in {CONTAINERS} cannot be set: {NEW_POD}",
            )
            for field, fields in [
                ("restartPolicy", {"restartPolicy": "Always"}),
                (
                    "restartPolicyRules",
                    {"restartPolicy": "Never", "restartPolicyRules": [RESTART_AT_42]},
                ),
            ]
        ),
        ({f"{POD_SPEC}.serviceAccount": "me"}, "each job has an account of its own"),
        ({f"{POD_SPEC}.containers": [{"name": "trainer"}] * 2}, "containers[1]: Duplicate value"),
        ({f"{POD_SPEC}.initContainers": [{"name": "a"}] * 2}, "initContainers[1]: Duplicate value"),
        ({f"{POD_SPEC}.initContainers": [{"name": "trainer"}]}, "give it a name of its own"),
        (
            {
                f"{POD_SPEC}.initContainers": [{"name": "a"}, {"name": "b"}],
                f"{POD_SPEC}.containers": [{"name": "b"}],
            },
            "give it a name of its own",
        ),
        ({f"{POD_SPEC}.containers": [{"image": "x"}]}, "containers[0].name: Required value"),
        # What is no pod.
        *(
            ({f"{POD_SPEC}.{field}": value}, f"{POD_SPEC}.{where}")
            for field, value, where in [
                ("containers", [{"name": "trainer", "env": {"A": "b"}}], "containers[0].env"),
                ("containers", [{"name": "b", "envFrom": ["c"]}], "containers[0].envFrom[0]"),
                ("containers", [{"name": "b", "ports": [80]}], "containers[0].ports[0]"),
                ("containers", [{"name": "b", "resources": "x"}], "containers[0].resources"),
                (
                    "containers",
                    [{"name": "trainer", "volumeMounts": ["/data"]}],
                    "containers[0].volumeMounts[0]",
                ),
                (
                    "containers",
                    [{"name": "trainer", "securityContext": "x"}],
                    "containers[0].securityContext",
                ),
                ("initContainers", {"name": "first"}, "initContainers"),
                ("initContainers", [{"name": "a", "env": {"A": "b"}}], "initContainers[0].env"),
                ("volumes", {"name": "data"}, "volumes"),
                ("tolerations", {"key": "gpu"}, "tolerations"),
                ("imagePullSecrets", ["mine"], "imagePullSecrets[0]"),
                ("securityContext", "x", "securityContext"),
                ("affinity", [], "affinity"),
            ]
        ),
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
        ({"spec.checkpoint.auto": {"maxOverheadPercent": 0}}, "auto.maxOverheadPercent"),
        ({"spec.checkpoint.auto": {"maxOverheadPercent": 51}}, "auto.maxOverheadPercent"),
        (
            {"spec.checkpoint.auto": {}, "spec.checkpoint.everySteps": 5},
            message_of("spec.checkpoint", 0),
        ),
        (
            {"spec.checkpoint.auto": {}, "spec.checkpoint.everySeconds": 5},
            message_of("spec.checkpoint", 0),
        ),
        ({"spec.checkpoint.keepBest": {"metric": "loss"}}, "keepBest.mode: Required value"),
        (
            {"spec.checkpoint.keepBest": {"metric": "loss", "mode": "auto"}},
            'supported values: "min", "max"',
        ),
        (
            {"spec.checkpoint.keepBest": {"metric": "val_loss", "mode": "min"}},
            message_of("spec", 3),
        ),
        ({"spec.trainer.image": " "}, "spec.trainer.image"),
        ({"spec.trainer.image": "trainer:1\N{NO-BREAK SPACE}"}, "spec.trainer.image"),
        (
            {"spec.dataset.cache": {"batchSize": 1, "url": "redis://a:1\N{NO-BREAK SPACE}"}},
            "spec.dataset.cache.url",
        ),
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
        (
            {"spec.failurePolicy.maxDisruptionRestarts": -1},
            "spec.failurePolicy.maxDisruptionRestarts",
        ),
        ({"spec.failurePolicy.windowSeconds": 0}, "spec.failurePolicy.windowSeconds"),
        (
            {"spec.failurePolicy.cannotStartTimeoutSeconds": 9},
            "spec.failurePolicy.cannotStartTimeoutSeconds",
        ),
        ({"spec.builder.module": "my-module"}, "spec.builder.module"),
        ({"spec.builder.datasetFunction": "make data"}, "spec.builder.datasetFunction"),
        ({"spec.builder.configMap.name": "Code"}, "spec.builder.configMap.name"),
        ({f"{RESOURCES}.limits": {"memory": "2 GB"}}, f"{RESOURCES}.limits.memory"),
        (
            {"spec.builder.datasetParams": {f"p{i}": i for i in range(65)}},
            "spec.builder.datasetParams: Too many",
        ),
        # Going back and forking.
        ({"spec.restore": {}}, "spec.restore.fromCommit: Required value"),
        ({"spec.restore.fromCommit": "latest"}, "spec.restore.fromCommit"),
        ({"spec.restore.fromCommit": "120"}, "spec.restore.fromCommit"),
        ({"spec.forkFrom": {}}, message_of("spec.forkFrom", 1)),
        ({"spec.forkFrom": {"jobName": "a", "jobUid": "b"}}, message_of("spec.forkFrom", 1)),
        ({"spec.forkFrom": {"jobName": "job"}}, "names this job itself: to go back in it, set"),
        ({"spec.forkFrom": {"jobUid": "../x"}}, "spec.forkFrom.jobUid"),
        ({"spec.forkFrom": {"jobName": "a", "commit": "newest"}}, "spec.forkFrom.commit"),
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


ON_ONE = {"onExitCodes": {"operator": "In", "values": [1]}}
ON_DISRUPTION = {"onPodConditions": [{"type": "DisruptionTarget"}]}


def rule(**fields: Any) -> dict[str, Any]:
    """Return a rule of the failure policy."""
    return {"action": "Fail", **fields}


def codes(*values: int, operator: str = "In") -> dict[str, Any]:
    """Return a rule by exit codes."""
    return rule(onExitCodes={"operator": operator, "values": values})


def saying(pattern: str) -> dict[str, Any]:
    """Return a rule by the termination message."""
    return rule(onTerminationMessage={"pattern": pattern})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        # Exactly one matcher.
        ([rule()], "rules[0]: Invalid value"),
        ([rule()], message_of("spec.failurePolicy.rules[]", 0)),
        ([rule(**ON_ONE, **ON_DISRUPTION)], message_of("spec.failurePolicy.rules[]", 0)),
        ([rule(**ON_ONE), rule(**ON_ONE, **ON_DISRUPTION)], "rules[1]: Invalid value"),
        # Names and actions.
        ([rule(name="a", **ON_ONE), rule(name="a", **ON_ONE)], "two rules have the same name"),
        ([rule(name="My Rule", **ON_ONE)], "rules[0].name"),
        ([{**ON_ONE}], "rules[0].action: Required value"),
        ([rule(**ON_ONE) | {"action": "Retry"}], 'supported values: "Ignore", "Count", "Fail"'),
        ([rule(**ON_ONE)] * 21, "spec.failurePolicy.rules: Too many: 21"),
        ([rule(onExitCode={})], 'unknown field "spec.failurePolicy.rules[0].onExitCode"'),
        # Exit codes.
        ([codes(2, 1)], "onExitCodes.values must be in ascending order"),
        ([codes(1, 1)], "values[1]: Duplicate value: 1"),
        ([codes(0, 1)], "onExitCodes.values cannot hold 0 with operator In"),
        ([codes()], "onExitCodes.values"),
        ([codes(256)], "onExitCodes.values[0]"),
        ([codes(1, operator="Is")], "onExitCodes.operator"),
        ([rule(onExitCodes={"values": [1]})], "onExitCodes.operator: Required value"),
        # Conditions.
        ([rule(onPodConditions=[])], "rules[0].onPodConditions"),
        ([rule(onPodConditions=[{"status": "True"}])], "onPodConditions[0].type: Required value"),
        ([rule(onPodConditions=[{"type": "a b"}])], "onPodConditions[0].type"),
        ([rule(onPodConditions=[{"type": "A", "status": "true"}])], "onPodConditions[0].status"),
        # Patterns.
        ([saying("")], "onTerminationMessage.pattern"),
        ([saying("x" * 257)], "onTerminationMessage.pattern"),
        ([rule(**ON_ONE), saying("(")], "rules[1].onTerminationMessage"),
        ([saying("(")], "missing closing )"),
        (
            [saying("(a{1,10}){1,30}")],
            message_of("spec.failurePolicy.rules[].onTerminationMessage", 1),
        ),
        ([saying("a{1000,}")], "have more than 3 digits together; use * or +"),
        ([saying("(?=x)")], "invalid or unsupported Perl syntax"),
        ([saying(r"(a)\1")], "invalid escape sequence"),
        *(
            ([saying(pattern)], message_of("spec.failurePolicy.rules[].onTerminationMessage", 2))
            for pattern in [
                "{",
                "a{b",
                "x{,5}",
                "a{01}",
                r"\b{start}",
                r"\Qa.b\E",
                r"\<a",
                r"\012",
                r"\x{41}",
                "[[a]",
                "[]a]",
                "[a&&b]",
                "[a--b]",
                "[a~~b]",
                r"[\w-.]",
                "(?P<name>a)",
                "(?<name>a)",
                "a(?i)b",
                "(?ii)a",
                "(?i-i)a",
                "(?)a",
            ]
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_mistake_in_the_rules_is_refused_with_the_field_and_the_mend(
    try_out: Apply, rules: list[dict[str, Any]], message: str
) -> None:
    done = try_out(job(**{"spec.failurePolicy.rules": rules}))
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.parametrize(
    "patterns",
    [
        ["exit code 137", r"(?i)^oserror: .*(no route|timed? out)$", r"\d{4}-\d{2}-\d{2}: .+?"],
        [r"\{\}\[\]\(\)\.\*\+\?\^\$\|\\ \-\&\~\ \"\'\/", "}]", r"\a\f\t\n\r\v\x41\x7F"],
        [r"\AA\b\w\B\W\s\S\d\D\z", r"\pL\PN\p{Lu}\P{Greek}", "a??b*?c+?d{2}?e{2,}?f{0,9}"],
        ["[a-z][^a-z][-a][a-][-][&][~]", r"[ -~][!-&&b][a&b~c][a&-]", r"[\w.-][\d\pL][[:alpha:]_]"],
        [r"[{(?*+|^$.][\[\]\-\\&\~][a^]", "[a-c-]", "[\u00e9-\u00fc]\u2026", "a\nb"],
        ["(?:a|)+(b|(c))*", "(?i:a)(?-i:b)(?sU:.)", "(?imsU)a", "||", "()", "^*$+", r"\(?x\)?"],
        [".{999}", r"\w{99}", "(a{9}){99}"],
    ],
    ids=lambda patterns: patterns[0],
)
def test_a_pattern_that_the_server_takes_the_operator_takes_too(
    try_out: Apply, patterns: list[str]
) -> None:
    manifest = job(**{"spec.failurePolicy.rules": [saying(pattern) for pattern in patterns]})
    done = try_out(manifest)
    assert done.returncode == 0, done.stderr
    assert parse_spec("job", manifest["spec"])[1] == ""


@pytest.mark.parametrize(
    "budgets",
    [
        {"spec.runPolicy.backoffLimit": 101},
        {"spec.failurePolicy.maxDisruptionRestarts": 101},
    ],
    ids=str,
)
def test_a_window_needs_budgets_whose_times_fit_into_status(
    try_out: Apply, budgets: dict[str, int]
) -> None:
    assert try_out(job(**budgets)).returncode == 0
    done = try_out(job(**budgets, **{"spec.failurePolicy.windowSeconds": 60}))
    assert done.returncode != 0
    assert message_of("spec", 1) in done.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {
            "spec.failurePolicy": {
                "rules": [
                    rule(name="licence", **ON_ONE),
                    codes(0, 7, 255, operator="NotIn") | {"action": "Count"},
                    rule(**ON_DISRUPTION) | {"action": "Ignore"},
                    saying(r"(?i)^builderfailed: .*(no route|timed? out)$")
                    | {"action": "Recreate"},
                    *[saying(r"on \d{4}-\d{2}-\d{2}: .+" + "x" * n) for n in range(16)],
                ],
                "maxDisruptionRestarts": 100,
                "windowSeconds": 3600,
                "cannotStartTimeoutSeconds": 10,
            }
        },
        {"metadata.name": "a" * MAX_JOB_NAME_LENGTH},
        {"spec.builder": {}},
        {"spec.epochs": LEFT_OUT, "spec.totalSteps": 1},
        {"spec.epochs": None, "spec.totalSteps": 1},
        {
            "spec.builder.configMap": LEFT_OUT,
            "spec.builder.claim": {"name": "code", "path": "models/..v2/x"},
        },
        {"spec.builder": {"claim": {"name": "code"}, "module": "my_project.flights.builder"}},
        {"spec.builder": {"module": "my_project.flights.builder"}},
        {"spec.checkpoint": {"claimName": "work.v1", "everySteps": 100, "everySeconds": 30}},
        {"spec.checkpoint": {"claimName": "work", "auto": {}}},
        {
            "spec.builder.validationFunction": "validation",
            "spec.checkpoint.keepBest": {"metric": "val_loss", "mode": "min"},
        },
        {f"{RESOURCES}.limits": {"nvidia.com/gpu": 1, "memory": "1.5Gi", "cpu": "250m"}},
        {f"{POD_SPEC}.containers": [{"name": "trainer", "env": []}, {"name": "b", "image": "x"}]},
        {
            f"{POD_SPEC}.containers": [
                {"name": "b", "restartPolicy": "Never", "restartPolicyRules": [RESTART_AT_42]}
            ]
        },
        {f"{POD_SPEC}.initContainers": [{"name": "b", "restartPolicy": "Always"}]},
        {f"{POD_SPEC}.tolerations": [{"operator": "Exists"}]},
        {"spec.trainer.podTemplate.metadata.labels": {"team": "wind"}},
        {"spec.dataset.cache": {"batchSize": 8, "maxSize": "1.5Gi", "url": "redis://a:1/0"}},
        {"spec.dataset.cache.batchSize": 8, "spec.builder.batchFunction": "augment"},
        {"spec.restore.fromCommit": "000000000120-000003"},
        {"spec.forkFrom": {"jobName": "other"}},
        {"spec.forkFrom": {"jobUid": "6f0e3e1c-0a", "commit": "000000000120-000003-final"}},
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


FORK = {"spec.forkFrom": {"jobName": "other"}}
CACHE = {"spec.dataset.cache": {"batchSize": 8}}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (FORK, {"spec.forkFrom": {"jobName": "another"}}, message_of("spec.forkFrom", 0)),
        (FORK, {"spec.forkFrom": {"jobUid": "u"}}, message_of("spec.forkFrom", 0)),
        (FORK, {}, message_of("spec", 2)),
        ({}, FORK, message_of("spec", 2)),
        (CACHE, {}, "spec.dataset.cache cannot be set or taken out later"),
        ({}, CACHE, "spec.dataset.cache cannot be set or taken out later"),
        (CACHE, {"spec.dataset.cache.batchSize": 9}, "spec.dataset.cache.batchSize cannot change"),
    ],
    ids=["job", "uid", "taken-out", "set-later", "cache-out", "cache-later", "batch-size"],
)
def test_where_a_job_began_and_what_it_caches_cannot_change(
    apply: Apply, before: dict[str, Any], after: dict[str, Any], message: str
) -> None:
    assert apply(job(**before)).returncode == 0
    done = apply(job(**after))
    assert done.returncode != 0
    assert message in done.stderr


BACK = {"spec.restore.fromCommit": "000000000120-000003"}


@pytest.fixture
def finish(installed: list[str], namespace: str) -> Callable[[str], None]:
    """Give the job a phase, as the operator does."""

    def set_phase(phase: str) -> None:
        position = {"epoch": 1, "step": 40}
        patch = json.dumps({"status": {"phase": phase, "position": position}})
        command = [*installed, "-n", namespace, "patch", "rtj", "job", "--subresource=status"]
        subprocess.run(
            [*command, "--type=merge", "-p", patch], check=True, capture_output=True, timeout=30
        )

    return set_phase


@pytest.mark.parametrize("phase", ["Completed", "Failed"])
def test_a_finished_job_neither_goes_back_nor_on(
    apply: Apply, finish: Callable[[str], None], phase: str
) -> None:
    assert apply(job(**BACK)).returncode == 0
    finish("Running")
    assert apply(job()).returncode == 0
    longer = {**BACK, "spec.epochs": 9}
    assert apply(job(**longer)).returncode == 0
    finish(phase)
    other = {**longer, "spec.restore.fromCommit": "000000000110-000003"}
    for changes, message in (
        (other, message_of("", 3)),
        ({**longer, "spec.epochs": 10}, message_of("", 4)),
        ({**BACK, "spec.epochs": LEFT_OUT, "spec.totalSteps": 9}, message_of("", 4)),
    ):
        done = apply(job(**changes))
        assert done.returncode != 0
        assert message in done.stderr
    done = apply(job(**longer, **{"spec.runPolicy.ttlSecondsAfterFinished": 60}))
    assert done.returncode == 0, done.stderr
    assert apply(job(**{"spec.epochs": 9})).returncode == 0, "spec.restore may be taken out"


@pytest.mark.parametrize(
    ("long", "shorter", "too_short"),
    [
        ({"spec.epochs": 5}, {"spec.epochs": 2}, {"spec.epochs": 1}),
        (
            {"spec.epochs": LEFT_OUT, "spec.totalSteps": 90},
            {"spec.epochs": LEFT_OUT, "spec.totalSteps": 41},
            {"spec.epochs": LEFT_OUT, "spec.totalSteps": 40},
        ),
        (
            {"spec.epochs": 5},
            {"spec.epochs": LEFT_OUT, "spec.totalSteps": 41},
            {"spec.epochs": LEFT_OUT, "spec.totalSteps": 40},
        ),
        (
            {"spec.epochs": LEFT_OUT, "spec.totalSteps": 90},
            {"spec.epochs": 2},
            {"spec.epochs": 1},
        ),
    ],
    ids=["epochs", "totalSteps", "epochs-to-totalSteps", "totalSteps-to-epochs"],
)
def test_a_job_can_be_made_shorter_but_not_than_it_is_already(
    apply: Apply,
    finish: Callable[[str], None],
    long: dict[str, Any],
    shorter: dict[str, Any],
    too_short: dict[str, Any],
) -> None:
    assert apply(job(**long)).returncode == 0
    finish("Running")
    done = apply(job(**too_short))
    assert done.returncode != 0
    assert message_of("", 5) in done.stderr
    done = apply(job(**shorter))
    assert done.returncode == 0, done.stderr


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
