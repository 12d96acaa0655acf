"""The CRD of this repository in an API server under test."""

import subprocess
from pathlib import Path

from rtj_api import crd
from rtj_api.names import API_VERSION, PLURAL
from rtj_devcluster import kubebox
from rtj_devcluster.shell import wait_until

CRD_FILE = Path(__file__).parents[2] / "crds" / f"{crd.NAME}.yaml"


def install_crd(kubeconfig: Path) -> None:
    """Apply the CRD and wait until jobs can be made."""
    applied = _kubectl(kubeconfig, "apply", f"--filename={CRD_FILE}")
    assert applied.returncode == 0, applied.stderr
    wait_until_served(kubeconfig)


def wait_until_served(kubeconfig: Path) -> None:
    """Wait until jobs can be made.

    `kubectl wait` is no help: it fails on a CRD so new that it has no conditions.
    """
    path = f"/apis/{API_VERSION}/{PLURAL}"
    wait_until(
        lambda: _kubectl(kubeconfig, "get", "--raw", path).returncode == 0,
        what="the API server serves the CRD",
        timeout=30,
    )


def _kubectl(kubeconfig: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [kubebox.binary("kubectl"), f"--kubeconfig={kubeconfig}", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)
