"""`make setup` on a machine whose Python lacks what Debian keeps apart: it is had, or named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PACKAGE = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
PYTHON = f"""#!/bin/sh
case "$*" in
  *ensurepip*) [ -e "${{0%/*}}/ensurepip" ]; exit $? ;;
  *venv*) echo "it makes a venv" >&2; exit 7 ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
APT_GET = """#!/bin/sh
echo "$*" >> "${0%/*}/calls"
case "$*" in *install*) : > "${0%/*}/ensurepip" ;; esac
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """All programs of a machine, on which root is at work: apt-get is not among them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    write(folder / "python3.12", PYTHON)
    write(folder / "id", "#!/bin/sh\necho 0\n")
    found = shutil.which("make")
    assert found
    (folder / "make").symlink_to(found)
    return folder


def write(program: Path, text: str) -> None:
    program.write_text(text)
    program.chmod(0o755)


def setup(programs: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "--no-print-directory", "setup", f"VENV={programs.parent / 'venv'}", *arguments],
        cwd=ROOT,
        env={"PATH": str(programs), "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_missing_is_installed_where_root_has_apt_get(programs: Path) -> None:
    write(programs / "apt-get", APT_GET)
    told = setup(programs, "PYTHON=python3.12")
    assert f"Install {PACKAGE}" in told.stdout
    assert "it makes a venv" in told.stderr
    update, install = (programs / "calls").read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith(f" {PACKAGE}")


@pytest.mark.parametrize("lacks", ["apt-get", "root"])
def test_where_it_cannot_be_installed_it_is_named(programs: Path, lacks: str) -> None:
    if lacks == "root":
        write(programs / "apt-get", APT_GET)
        write(programs / "id", "#!/bin/sh\necho 1000\n")
    told = setup(programs, "PYTHON=python3.12")
    assert told.returncode != 0
    assert f"install the package {PACKAGE}" in told.stderr
    assert not (programs / "calls").exists()
    assert not (programs.parent / "venv").exists()


def test_a_python_that_is_allowed_is_taken_where_the_usual_one_is_not_there(
    programs: Path,
) -> None:
    (programs / "ensurepip").touch()
    assert "it makes a venv" in setup(programs).stderr


def test_a_python_that_is_not_there_is_named(programs: Path) -> None:
    (programs / "python3.12").unlink()
    told = setup(programs)
    assert told.returncode != 0
    assert "python3.11 is not installed" in told.stderr
    assert "make PYTHON=" in told.stderr
