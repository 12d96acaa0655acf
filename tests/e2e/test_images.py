"""The images: a builder may be on a claim or in the image, and nothing installs into a pod."""

import json
from pathlib import Path
from typing import Any

import pytest
from rtj_demo.install import NAMESPACE as OPERATOR_NAMESPACE
from rtj_demo.jobs import INSPECTOR, load_example, put_file, start_inspector, submit
from rtj_demo.kube import Kube

pytestmark = pytest.mark.e2e

BUILDER = Path(__file__).parents[2] / "examples" / "iterator" / "builder.py"
CLAIM = "iterator"
MODULES = "import importlib.util, json, os; print(json.dumps([os.getuid(), [name for name in "
MODULES += "('pip', 'setuptools', 'ensurepip') if importlib.util.find_spec(name)]]))"


@pytest.mark.usefixtures("operator")
def test_a_builder_may_be_on_a_claim_or_in_the_image(kube: Kube, namespace: str) -> None:
    def on_claim(job: dict[str, Any]) -> None:
        job["spec"]["epochs"] = 2
        job["spec"]["builder"] = {"claim": {"name": CLAIM, "path": "code"}}

    def in_image(job: dict[str, Any]) -> None:
        job["spec"]["epochs"] = 2
        job["spec"]["builder"] = {"module": "as_installed"}
        job["spec"]["trainer"]["podTemplate"] = {"spec": _with_module("as_installed")}

    claim, config_map, job = load_example("iterator", "on-claim", on_claim)
    config_map["data"]["as_installed.py"] = config_map["data"]["builder.py"]
    kube.run("apply", "-n", namespace, "-f", "-", stdin=json.dumps(claim))
    image = job["spec"]["trainer"]["image"]
    start_inspector(kube, namespace, CLAIM, image)
    put_file(kube, namespace, BUILDER, "/var/lib/rtj/code/builder.py")
    jobs = [
        submit(kube, namespace, [config_map, job]),
        submit(kube, namespace, load_example("iterator", "in-image", in_image)[-1:]),
    ]
    for each in jobs:
        status = each.wait_for_end()
        assert (status["phase"], status["position"]["step"]) == ("Completed", 20), status
    assert _user_and_installers(kube, namespace, INSPECTOR) == [65532, []]


def _with_module(name: str) -> dict[str, Any]:
    """Return a pod in which a module lies on Python's path, as one in the image does."""
    mount = {"name": "installed", "mountPath": "/opt/installed"}
    path = {"name": "PYTHONPATH", "value": "/opt/rtj/src:/opt/installed"}
    items = [{"key": f"{name}.py", "path": f"{name}.py"}]
    return {
        "volumes": [
            {"name": "installed", "configMap": {"name": "iterator-builder", "items": items}}
        ],
        "containers": [{"name": "trainer", "env": [path], "volumeMounts": [mount]}],
    }


@pytest.mark.usefixtures("operator")
def test_the_operators_image_has_no_installer_and_no_root(kube: Kube) -> None:
    # Of its pods, one of a rollout before may still be going.
    deployment = "deployment/rtj-rtj-operator"
    assert _user_and_installers(kube, OPERATOR_NAMESPACE, deployment) == [65532, []]


def _user_and_installers(kube: Kube, namespace: str, pod: str) -> list[Any]:
    """Return as whom a container runs, and what it could install packages with."""
    found: list[Any] = json.loads(
        kube.run("exec", "-n", namespace, pod, "--", "python", "-c", MODULES)
    )
    return found
