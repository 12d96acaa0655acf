"""A program that is followed hands on its lines, and never outlives who follows it."""

import fcntl
import os
import pty
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
from rtj_devcluster.errors import CommandFailedError
from rtj_devcluster.paths import STATE_VARIABLE
from rtj_devcluster.processes import Process
from rtj_devcluster.shell import follow, wait_until
from rtj_devcluster.slots import locked

pytestmark = pytest.mark.unit

PROGRAM = "sleep 300 & echo $$ $!; wait"
BUILDING = f"""
import sys
from rtj_devcluster import cli
from rtj_devcluster.paths import state_root
from rtj_devcluster.shell import follow
from rtj_devcluster.slots import locked

def build(*_, **__):
    with locked(".build") as lock:
        try:
            follow(["sh", "-c", {PROGRAM!r}], lambda line: print(line, flush=True), lock=lock)
        finally:
            print("It was ended.", flush=True)
            (state_root() / "ended").touch()

cli.building.build = build
sys.argv = ["devcluster", "build", "x"]
cli.main()
"""
"""The command line, with a builder that never comes to an end."""
COMMAND = ["env", "--default-signal=INT,TERM,HUP", sys.executable, "-c", BUILDING]
"""A command that is started with ignored signals, as by nohup, leaves them ignored."""


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    with locked("the lock of this test") as lock:
        yield lock


def test_lines_are_handed_on_and_a_failure_ends_with_them(lock: int) -> None:
    seen: list[str] = []
    with pytest.raises(CommandFailedError, match=r"(?s)failed\none\ntwo\n$"):
        follow(["sh", "-c", "echo one; echo two >&2; exit 3"], seen.append, lock=lock)
    assert seen == ["one\n", "two\n"]


def test_an_interrupt_ends_the_program_and_what_it_started(lock: int) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.extend(map(int, line.split()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(["sh", "-c", PROGRAM], interrupt, lock=lock)

    assert len(pids) == 2
    await_end(pids)


@contextmanager
def killed_on_failure(command: "Popen[Any]") -> Iterator[list[int]]:
    """Yield a list for the processes of its build, of which the first leads their group."""
    pids: list[int] = []
    try:
        yield pids
    except BaseException:
        command.kill()
        for pid in pids[:1]:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        raise


def await_end(pids: list[int]) -> None:
    wait_until(lambda: not any(map(Process.of_pid, pids)), what="all have ended", timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("lock")
def test_a_command_that_is_asked_to_end_ends_its_build(number: signal.Signals) -> None:
    with (
        Popen(COMMAND, stdout=PIPE, stderr=PIPE, text=True) as command,
        killed_on_failure(command) as pids,
    ):
        assert command.stdout is not None
        pids += [int(pid) for pid in command.stdout.readline().split()]
        command.send_signal(number)
        _, told = command.communicate(timeout=60)
    await_end(pids)
    assert command.returncode != 0
    assert "Traceback" not in told


@pytest.mark.usefixtures("lock")
def test_a_command_whose_terminal_is_closed_ends_its_build_and_cleans_up(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    # The leader of a session that has this terminal is told when it is closed.
    with (
        Popen(
            ["setsid", "--ctty", *COMMAND], stdin=theirs, stdout=theirs, stderr=theirs
        ) as command,
        killed_on_failure(command) as pids,
    ):
        os.close(theirs)
        pids += [int(pid) for pid in os.read(ours, 100).split()]
        os.close(ours)
        command.wait(timeout=60)
    await_end(pids)
    assert (tmp_path / "ended").exists()


@pytest.mark.usefixtures("lock")
def test_a_build_whose_command_was_killed_holds_its_lock_until_it_ends(tmp_path: Path) -> None:
    with Popen([sys.executable, "-c", BUILDING], stdout=PIPE, text=True) as command:
        assert command.stdout is not None
        pids = [int(pid) for pid in command.stdout.readline().split()]
        command.kill()
    with (tmp_path / ".locks" / ".build").open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.killpg(pids[0], signal.SIGKILL)
        await_end(pids)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
