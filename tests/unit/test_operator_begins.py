"""The operator as a process that cannot begin: one message tells why."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit


def test_without_a_cluster_one_message_says_so(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if "KUBE" not in name},
        "KUBECONFIG": str(tmp_path / "absent"),
        "RTJ_OPERATOR_NAMESPACE": "rtj-system",
    }
    told = subprocess.run(
        [sys.executable, "-m", "rtj_operator"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "rtj-operator: No service account of a pod, and no cluster in KUBECONFIG" in told.stderr
    assert "Traceback" not in told.stderr
