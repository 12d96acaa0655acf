"""`make clean` does not pass over a cluster that it cannot take down."""

import os
import subprocess
from pathlib import Path

import pytest
from rtj_devcluster.paths import STATE_VARIABLE

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


def clean(home: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "--no-print-directory", "clean", f"VENV={home / 'venv'}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_cluster_there_is_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / ".local/state/rtj-devcluster/.slots").mkdir(parents=True)
    assert clean(tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("left", "variable"),
    [
        (".local/state/rtj-devcluster/.slots/0", None),
        ("xdg/rtj-devcluster/.slots/0", ("XDG_STATE_HOME", "xdg")),
        ("mine/.slots/0", (STATE_VARIABLE, "mine")),
        (".cache/rtj-demo-kind/kubeconfig", None),
    ],
)
def test_a_cluster_that_is_there_without_a_venv_is_named(
    tmp_path: Path, left: str, variable: tuple[str, str] | None
) -> None:
    (tmp_path / left).parent.mkdir(parents=True)
    (tmp_path / left).touch()
    told = clean(tmp_path, **({variable[0]: str(tmp_path / variable[1])} if variable else {}))
    assert told.returncode != 0
    assert left in told.stderr
    assert "make setup" in told.stderr
