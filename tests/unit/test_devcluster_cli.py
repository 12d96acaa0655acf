"""The command line says in one message what went wrong."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rtj_devcluster.paths import STATE_VARIABLE

pytestmark = pytest.mark.unit


def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rtj_devcluster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "defaults"),
    [
        ("up", ["Number of nodes. [default: (2)]", "[default: (0)]"]),
        ("build", ["FOLDER/Dockerfile"]),
    ],
)
def test_the_help_tells_defaults_that_depend(command: str, defaults: list[str]) -> None:
    told = " ".join(call(command, "--help").stdout.replace("│", " ").split())
    for default in defaults:
        assert default in told


def test_the_script_names_the_extra_that_it_needs() -> None:
    metadata = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    module, function = metadata["project"]["scripts"]["devcluster"].split(":")
    without = "import sys; sys.modules['typer'] = None"
    script = f"{without}; from {module} import {function}; {function}()"
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert told.returncode == 1
    assert "resumable-training-job[devcluster]" in told.stderr
    assert "Traceback" not in told.stderr


def test_what_the_disk_refuses_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "file" / "state"))
    told = call("down")
    assert told.returncode == 1
    assert told.stderr.startswith("devcluster: [Errno 20] Not a directory: ")
    assert len(told.stderr.splitlines()) == 1


def test_every_cluster_goes_although_a_slot_says_not_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    slots = tmp_path / ".slots"
    slots.mkdir()
    (slots / "3").touch()
    told = call("down", "--all")
    assert told.returncode == 1
    assert f"devcluster: {slots / '3'}: broken" in told.stderr
    assert "Traceback" not in told.stderr
    (slots / "3").unlink()
    assert call("down", "--all").returncode == 0
