"""What a new user gets wrong ends in a condition and an Event that name the field and the mend."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from rtj_demo.jobs import Job, load_example, submit
from rtj_demo.kube import CommandFailedError, Kube, wait_for

pytestmark = pytest.mark.e2e

Change = Callable[[list[dict[str, Any]]], None]


def _job_spec(objects: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = next(o for o in objects if o["kind"] == "ResumableTrainingJob")["spec"]
    return spec


def _set_builder(source: str) -> Change:
    def change(objects: list[dict[str, Any]]) -> None:
        config_map = next(o for o in objects if o["kind"] == "ConfigMap")
        config_map["data"]["builder.py"] = source

    return change


def _set_builder_field(field: str, value: Any) -> Change:
    return lambda objects: _job_spec(objects)["builder"].update({field: value})


def _events(kube: Kube, namespace: str, job: str) -> list[dict[str, Any]]:
    return [
        event
        for event in kube.list("events", namespace)
        if event["involvedObject"]["name"] == job
        and event["involvedObject"]["kind"] == "ResumableTrainingJob"
    ]


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((c for c in status.get("conditions", []) if c["type"] == kind), {})


PERMANENT: dict[str, tuple[Change, str, list[str]]] = {
    "a builder with a syntax error": (
        _set_builder("def build_dataset(:\n    pass\n"),
        "BuilderInvalid",
        ["builder.py:1", "invalid syntax"],
    ),
    "an unknown dataset function": (
        _set_builder_field("datasetFunction", "bild_dataset"),
        "FunctionNotFound",
        ["bild_dataset", "build_dataset"],
    ),
    "a parameter that the function does not have": (
        _set_builder_field("datasetParams", {"batchsize": 10}),
        "ParamsInvalid",
        ["datasetParams", "batchsize"],
    ),
    "a parameter of the wrong type": (
        _set_builder_field("datasetParams", {"batch_size": "ten"}),
        "ParamsInvalid",
        ["datasetParams.batch_size", "build_dataset", "int", "'ten'"],
    ),
    "parameters that no pod could be told": (
        _set_builder_field("datasetParams", {"batch_size": 10, "names": "x" * 100_000}),
        "InvalidSpec",
        ["spec.builder.datasetParams", "bytes"],
    ),
    "a module that is not there": (
        _set_builder_field("module", "bilder"),
        "BuilderNotFound",
        ["bilder.py", "builder.configMap"],
    ),
}


@pytest.mark.usefixtures("operator")
def test_mistakes_in_builders_are_named_and_never_retried(kube: Kube, namespace: str) -> None:
    jobs = []
    for number, (change, _, _) in enumerate(PERMANENT.values()):
        objects = load_example("iterator", f"wrong-{number}")
        change(objects)
        _name_config_map(objects, f"wrong-{number}")
        jobs.append(submit(kube, namespace, objects))
    for job, (mistake, (_, reason, words)) in zip(jobs, PERMANENT.items(), strict=True):
        for text in _told(job, reason):
            for word in words:
                assert word in text, mistake
        assert job.status()["restarts"]["total"] == 0, mistake


def _name_config_map(objects: list[dict[str, Any]], name: str) -> None:
    """Give a job a ConfigMap of its own, beside others of the same example."""
    next(o for o in objects if o["kind"] == "ConfigMap")["metadata"]["name"] = name
    _job_spec(objects)["builder"]["configMap"]["name"] = name


def _told(job: Job, reason: str) -> list[str]:
    """Return what a condition and an Event with this reason say."""

    def texts() -> list[str] | None:
        conditions = [c for c in job.status().get("conditions", []) if c["reason"] == reason]
        events = [e for e in _events(job.kube, job.namespace, job.name) if e["reason"] == reason]
        told = [each["message"] for each in (*conditions, *events)]
        return told if conditions and events else None

    return wait_for(f"a condition and an Event with reason {reason}", texts, 120)


def test_a_builder_that_raises_is_retried_up_to_its_limit_and_no_further(
    kube: Kube, namespace: str, operator: None
) -> None:
    objects = load_example("iterator", "raises")
    raising = "def build_dataset(**_):\n    raise OSError('no such bucket: s3://mine')\n"
    _set_builder(raising + "def build_model(**_): ...\n")(objects)
    _job_spec(objects)["runPolicy"] = {"backoffLimit": 1}
    job = submit(kube, namespace, objects)
    status = job.wait_for_end()
    failed = _condition(status, "Failed")
    assert failed["reason"] == "BackoffLimitExceeded"
    told = ("no such bucket", "spec.builder.datasetParams", "Correct the builder")
    for words in told:
        assert words in failed["message"]

    def told_in_events() -> bool:
        warnings = [e for e in _events(kube, namespace, job.name) if e["type"] == "Warning"]
        return all(any(words in e["message"] for e in warnings) for words in told)

    # They are posted after the status is written.
    wait_for(f"the Events to tell {told}", told_in_events, 60)
    assert status["restarts"]["userError"] == 1
    assert status["restarts"]["preempted"] == 0
    assert [a["cause"] for a in status["attempts"]] == ["UserError", "UserError"]


@pytest.mark.parametrize(
    ("kind", "reason", "field"),
    [
        ("ConfigMap", "BuilderNotFound", "spec.builder.configMap"),
        ("PersistentVolumeClaim", "ClaimNotFound", "spec.checkpoint.claimName"),
    ],
)
@pytest.mark.usefixtures("operator")
def test_what_is_missing_is_named_and_waited_for(
    kind: str, reason: str, field: str, kube: Kube, namespace: str
) -> None:
    objects = load_example("iterator", "early", lambda job: job["spec"].update({"epochs": 20}))
    late = next(o for o in objects if o["kind"] == kind)
    job = submit(kube, namespace, [o for o in objects if o is not late])
    _wait_for_reason(job, reason, field, late["metadata"]["name"])
    assert kube.list("pods", namespace, f"resumable.training/job-name={job.name}") == []
    kube.run("apply", "-n", namespace, "-f", "-", stdin=json.dumps(late))
    assert job.wait_for_end()["phase"] == "Completed"


@pytest.mark.usefixtures("operator")
def test_a_volume_that_cannot_be_mounted_is_named(kube: Kube, namespace: str) -> None:
    keys = {"name": "keys", "secret": {"secretName": "keys-of-mine"}}
    mount = {"name": "keys", "mountPath": "/keys"}
    under = {"volumes": [keys], "containers": [{"name": "trainer", "volumeMounts": [mount]}]}

    def with_secret(job: dict[str, Any]) -> None:
        job["spec"]["trainer"]["podTemplate"] = {"spec": under}

    job = submit(kube, namespace, load_example("iterator", "early", with_secret))
    _wait_for_reason(job, "ContainerNotStarted", "FailedMount", "keys-of-mine")
    assert job.status()["restarts"]["total"] == 0


def _wait_for_reason(job: Job, reason: str, *words: str) -> None:
    def told() -> bool:
        text = job.kube.run("describe", "rtj", job.name, "-n", job.namespace)
        conditions, _, events = text.partition("Events:")
        return all(
            reason in part and all(word in part for word in words) for part in (conditions, events)
        )

    wait_for(f"{reason} in the conditions and in the Events", told, 180)


def test_a_typo_in_a_field_is_refused_by_kubectl_apply(
    kube: Kube, namespace: str, operator: None
) -> None:
    objects = load_example("iterator", "typo", lambda job: job["spec"].update({"epoch": 3}))
    with pytest.raises(CommandFailedError, match=r'unknown field "spec\.epoch"'):
        submit(kube, namespace, objects)
