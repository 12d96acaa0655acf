"""The manifest in the README works as it stands there."""

from pathlib import Path

import pytest
import yaml
from rtj_demo.jobs import submit
from rtj_demo.kube import Kube

pytestmark = pytest.mark.e2e

README = Path(__file__).parents[2] / "README.md"
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "training"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}


@pytest.mark.usefixtures("operator")
def test_the_readmes_job_trains_to_its_end(kube: Kube, namespace: str) -> None:
    text = README.read_text().split("```yaml\n")[1].split("```")[0]
    job = submit(kube, namespace, [CLAIM, *yaml.safe_load_all(text)])
    status = job.wait_for_end()
    assert status["phase"] == "Completed"
    assert status["progress"] == "100%"
    columns, row = kube.run("get", "rtj", "-n", namespace).splitlines()
    assert columns.split() == ["NAME", "STATE", "PROGRESS", "STEP", "RESTARTS", "CHECKPOINT", "AGE"]
    assert row.split()[:5] == ["squares", "Completed", "100%", "1600", "0"]
