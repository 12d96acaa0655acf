"""The CRD as a real API server serves it: defaults, status, columns, explanations."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rtj_api import crd
from rtj_api.heartbeat import CommitRef, Position
from rtj_api.names import Cause, Condition, Phase, Reason
from rtj_api.schema import fields
from rtj_api.spec import JobSpec
from rtj_api.status import ConditionStatus, CurrentAttempt, EndedAttempt, JobStatus, Restarts
from rtj_api.time_spent import TimeSpent
from rtj_devcluster import kubebox
from rtj_devcluster.shell import wait_until

from tests.integration.crd_install import install_crd

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)
SPEC: dict[str, Any] = {
    "epochs": 1,
    "builder": {"claim": {"name": "code"}},
    "checkpoint": {"claimName": "work"},
    "trainer": {"image": "i"},
}
JOB: dict[str, Any] = {
    "apiVersion": "resumable.training/v1alpha1",
    "kind": "ResumableTrainingJob",
    "metadata": {"name": "job"},
}
STATUS = JobStatus(
    observed_generation=1,
    phase=Phase.RUNNING,
    conditions=[
        ConditionStatus(
            type=Condition.RUNNING,
            status="True",
            reason=Reason.TRAINING,
            last_transition_time=NOW,
        )
    ],
    attempt=CurrentAttempt(number=2, pod_name="job-2-0", decided_time=NOW),
    attempts=[
        EndedAttempt(
            number=1,
            cause=Cause.PREEMPTED,
            reason=Reason.NODE_LOST,
            start_time=NOW,
            end_time=NOW,
        )
    ],
    restarts=Restarts(preempted=1, total=1),
    position=Position(step=4200, epoch=1, samples=134400, total_steps=10000),
    progress="42%",
    time=TimeSpent(useful_seconds=90, lost_seconds=10),
    goodput="90%",
    estimated_completion_time=NOW + timedelta(days=1),
    last_commit=CommitRef(id="000000004100-000002", step=4100, time=NOW - timedelta(days=5)),
)


class Server:
    """kubectl in one namespace of the API server."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def run(self, *args: str, stdin: dict[str, Any] | None = None, check: bool = True) -> str:
        """Return what kubectl printed, the errors too."""
        done = subprocess.run(
            [*self._command, *args],
            input=None if stdin is None else json.dumps(stdin),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def create(self, spec: dict[str, Any], *flags: str, **others: Any) -> dict[str, Any]:
        """Create the job `job` and return it."""
        self.run("create", "--filename=-", *flags, stdin={**JOB, "spec": spec, **others})
        return self.job()

    def job(self) -> dict[str, Any]:
        """Return the job `job`."""
        job: dict[str, Any] = json.loads(self.run("get", "rtj", "job", "--output=json"))
        return job

    def write_status(self, status: dict[str, Any]) -> dict[str, Any]:
        """PUT the status subresource and return the job."""
        body = {**self.job(), "status": status}
        return dict(
            json.loads(
                self.run(
                    "replace", "--subresource=status", "--filename=-", "--output=json", stdin=body
                )
            )
        )


@pytest.fixture(scope="module")
def installed(kube_apiserver: Path) -> list[str]:
    """The kubectl of an API server that has the CRD."""
    install_crd(kube_apiserver)
    return [str(kubebox.binary("kubectl")), f"--kubeconfig={kube_apiserver}"]


@pytest.fixture
def server(installed: list[str], namespace: str) -> Iterator[Server]:
    """A kubectl in a namespace, and no job in it afterwards."""
    server = Server([*installed, "--namespace", namespace])
    yield server
    server.run("delete", "rtj", "--all")


def test_the_server_takes_the_schema_as_it_is(server: Server) -> None:
    conditions = json.loads(server.run("get", "crd", crd.NAME, "--output=json"))["status"][
        "conditions"
    ]
    by_type = {condition["type"]: condition for condition in conditions}
    assert by_type["Established"]["status"] == "True"
    assert "NonStructuralSchema" not in by_type


def test_defaults_are_filled_in_as_the_models_have_them(server: Server) -> None:
    stored = server.create(SPEC)["spec"]
    expected = JobSpec.model_validate(SPEC).model_dump(by_alias=True, exclude_none=True)
    for emptied in [name for name in expected["builder"] if name.endswith("Params")]:
        del expected["builder"][emptied]
    for emptied in ("resources", "podTemplate"):
        del expected["trainer"][emptied]
    del expected["failurePolicy"]["rules"]
    assert stored == expected


def test_free_json_is_kept_as_it_was_written(server: Server) -> None:
    params = {
        "text": "10",
        "number": 9007199254740993,
        "real": 0.30000000000000004,
        "nested": [{"deep": [None, True, {"x": None}]}],
    }
    pod_spec = {"nodeSelector": {"pool": "spot"}, "newFieldOfANewerKubernetes": {"a": [1]}}
    trainer = {"image": "i", "podTemplate": {"spec": pod_spec}}
    stored = server.create({**SPEC, "builder": {"datasetParams": params}, "trainer": trainer})
    assert stored["spec"]["builder"]["datasetParams"] == params
    assert stored["spec"]["trainer"]["podTemplate"]["spec"] == pod_spec


def test_kubectl_apply_drops_a_null_and_turns_one_point_nought_into_one(server: Server) -> None:
    """The description of datasetParams says so; a user must hear it before the builder does."""
    manifest = {
        "apiVersion": "resumable.training/v1alpha1",
        "kind": "ResumableTrainingJob",
        "metadata": {"name": "job"},
        "spec": {**SPEC, "builder": {"datasetParams": {"gone": None, "rate": 1.0}}},
    }
    server.run("apply", "--filename=-", stdin=manifest)
    stored = server.job()["spec"]["builder"]["datasetParams"]
    assert stored == {"rate": 1}
    assert isinstance(stored["rate"], int)


def test_a_field_that_the_schema_does_not_know_is_pruned_where_the_client_insists(
    server: Server,
) -> None:
    stored = server.create({**SPEC, "epoch": 3}, "--validate=false")
    assert "epoch" not in stored["spec"]


def test_status_is_a_subresource_that_the_operator_alone_writes(server: Server) -> None:
    status = json.loads(STATUS.model_dump_json(by_alias=True))
    created = server.create(SPEC, status=status)
    assert "status" not in created, "whoever creates a job cannot say how far it is"

    written = server.write_status(status)
    assert JobStatus.model_validate(written["status"]) == STATUS
    assert written["metadata"]["generation"] == 1

    spec_too = {**written, "spec": {**written["spec"], "epochs": 7}}
    server.run("replace", "--subresource=status", "--filename=-", stdin=spec_too)
    assert server.job()["spec"]["epochs"] == 1


def test_status_takes_the_words_of_a_newer_operator(server: Server) -> None:
    server.create(SPEC)
    written = server.write_status({"phase": "Resizing"})
    assert written["status"] == {"phase": "Resizing"}


def test_a_job_that_was_made_before_a_rule_of_its_pod_still_gets_its_status(
    server: Server, kube_apiserver: Path
) -> None:
    older = crd.manifest()
    pod = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for part in ("trainer", "podTemplate", "spec"):
        pod = pod["properties"][part]
    del pod["x-kubernetes-validations"]
    template = {"spec": {"containers": [{"name": "trainer", "restartPolicy": "Always"}]}}
    spec = SPEC | {"trainer": {"image": "i", "podTemplate": template}}
    body = {**JOB, "metadata": {"name": "other"}, "spec": spec}

    def taken() -> bool:
        told = server.run("create", "--filename=-", "--dry-run=server", stdin=body, check=False)
        return "created" in told

    try:
        server.run("apply", "--filename=-", stdin=older)
        wait_until(taken, what="the rules are gone", timeout=30)
        server.create(spec)
    finally:
        install_crd(kube_apiserver)
    wait_until(lambda: not taken(), what="the rules are back", timeout=30)
    status = STATUS.model_dump(mode="json", by_alias=True, exclude_none=True)
    body = {**server.job(), "status": status}
    server.run("replace", "--subresource=status", "--filename=-", stdin=body)
    assert server.job()["status"]["phase"] == "Running"


def test_a_stale_status_write_is_a_conflict(server: Server) -> None:
    stale = {**server.create(SPEC), "status": {"phase": "Failed"}}
    server.write_status({"phase": "Running"})
    answer = server.run("replace", "--subresource=status", "--filename=-", stdin=stale, check=False)
    assert "the object has been modified" in answer
    assert server.job()["status"]["phase"] == "Running"


def test_kubectl_get_shows_where_the_job_is(server: Server) -> None:
    server.create(SPEC)
    server.write_status(json.loads(STATUS.model_dump_json(by_alias=True)))
    header, row = server.run("get", "rtj").splitlines()
    assert header.split() == [
        *("NAME", "STATE", "PROGRESS", "STEP", "RESTARTS", "CHECKPOINT", "AGE"),
    ]
    name, state, progress, step, restarts, checkpoint, _age = row.split()
    assert (name, state, progress, step, restarts) == ("job", "Running", "42%", "4200", "1")
    assert checkpoint == "5d"


def test_kubectl_get_wide_shows_goodput_and_the_estimated_end(server: Server) -> None:
    server.create(SPEC)
    server.write_status(json.loads(STATUS.model_dump_json(by_alias=True)))
    header, row = server.run("get", "rtj", "--output=wide").splitlines()
    assert header.split()[-3:] == ["AGE", "GOODPUT", "ETA"]
    tomorrow = (NOW + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert row.split()[-2:] == ["90%", tomorrow]


def test_kubectl_describe_shows_the_kinds_of_time_that_took_some(server: Server) -> None:
    server.create(SPEC)
    server.write_status(json.loads(STATUS.model_dump_json(by_alias=True)))
    described = " ".join(server.run("describe", "rtj", "job").split())
    assert "Time: Lost Seconds: 10 Useful Seconds: 90" in described
    assert "Goodput: 90%" in described


def test_kubectl_explain_describes_every_field(server: Server) -> None:
    explained = " ".join(server.run("explain", "rtj", "--recursive").split())
    for part in ("spec", "status"):
        tree = crd.job_schema()["properties"][part]
        parents = {part, *(path for path, field, _ in fields(tree, part) if _children(field))}
        for parent in sorted(parents):
            page = " ".join(server.run("explain", f"rtj.{parent.replace('[]', '')}").split())
            for path, field, required in fields(tree, part):
                owner, _, name = path.rpartition(".")
                if owner.removesuffix("[]") != parent.removesuffix("[]"):
                    continue
                assert name in explained
                assert field["description"] in page, path
                assert not required or f"{name} <{_kind(field)}> -required-" in page, path


def _children(field: dict[str, Any]) -> bool:
    return "properties" in field or "properties" in field.get("items", {})


def _kind(field: dict[str, Any]) -> str:
    kind: str = field["type"]
    if kind == "array":
        return f"[]{_kind(field['items'])}"
    return "Object" if kind == "object" else kind
