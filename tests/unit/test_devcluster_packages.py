"""What is missing is installed once, also where two ask for it, and is then really there."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rtj_devcluster import packages
from rtj_devcluster.errors import CommandFailedError, MissingRequirementError
from rtj_devcluster.paths import STATE_VARIABLE

pytestmark = pytest.mark.unit

APT_GET = """#!/bin/sh
here=${0%/*}
echo "$*" >> "$here/calls"
case "$*" in
  *update*)
    if ! mkdir "$here/lock"; then
      echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1" >&2
      touch "$here/refused"
      exit 100
    fi
    rmdir "$here/lock" ;;
  *install*) [ ! -e "$here/thing.package" ] || mv "$here/thing.package" "$here/thing" ;;
esac
"""
"""An apt-get which, like the real one, does not wait for the lock of an update; of one package."""
THING = {"thing": "the-thing"}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs beside the system's; apt-get is there, its package is not."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("apt-get", APT_GET), ("thing.package", "#!/bin/sh\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    monkeypatch.setattr(packages, "_LOCK_PERIOD_SECONDS", 0.05)
    return folder


def calls(programs: Path) -> list[str]:
    return (programs / "calls").read_text().splitlines()


def test_of_two_that_lack_a_program_at_once_one_installs_it_for_both(programs: Path) -> None:
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(packages.ensure, THING) for _ in range(2)]
    for one in both:
        one.result()
    assert [call.split()[-1] for call in calls(programs)] == ["update", "the-thing"]


def test_a_lock_that_somebody_else_holds_is_waited_for(programs: Path) -> None:
    (programs / "lock").mkdir()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(packages.ensure, THING)
        while not (programs / "refused").exists() and not waiting.done():
            time.sleep(0.01)
        (programs / "lock").rmdir()
    waiting.result()
    updates = [call.split()[-1] for call in calls(programs)][:-1]
    assert updates == ["update"] * len(updates)
    assert len(updates) > 1


def test_a_lock_that_is_never_free_is_an_error_in_the_end(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs / "lock").mkdir()
    monkeypatch.setattr(packages, "_LOCK_SECONDS", 0.2)
    with pytest.raises(CommandFailedError, match="It is held by process 1"):
        packages.ensure(THING)


def test_a_program_that_is_not_found_although_it_was_installed_is_named(programs: Path) -> None:
    (programs / "thing.package").unlink()
    with pytest.raises(MissingRequirementError, match=r"installed the-thing.*not found: thing"):
        packages.ensure(THING)


def test_a_system_program_is_there_for_a_root_without_system_folders_on_its_path(
    programs: Path,
) -> None:
    # As by `su`; chroot is in /usr/sbin on a Debian, and in /usr/bin elsewhere.
    program = "from rtj_devcluster import packages; packages.ensure({'chroot': 'coreutils'})"
    told = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), capture_output=True, check=False
    )
    assert (told.returncode, (programs / "calls").exists()) == (0, False), told.stderr
