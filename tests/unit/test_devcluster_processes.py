"""A process of the dev cluster is never mistaken for another, and none runs unrecorded."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from subprocess import PIPE

import pytest
from rtj_devcluster import processes
from rtj_devcluster.control_plane import ControlPlane
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.paths import STATE_VARIABLE
from rtj_devcluster.shell import wait_until

pytestmark = pytest.mark.unit


def test_a_recorded_process_is_found_and_killed_and_then_not_found(tmp_path: Path) -> None:
    record = tmp_path / "run" / "sleep.json"
    started = processes.start(record, ["sleep", "600"], log=tmp_path / "log" / "sleep.log")
    assert processes.recorded(record) == started

    processes.kill([started])

    assert not started.alive()
    assert processes.recorded(record) is None


def test_a_process_that_took_over_a_pid_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "sleep.json"
    bystander = processes.start(record, ["sleep", "600"], log=tmp_path / "log")
    predecessor = replace(bystander, started=bystander.started - 1)
    record.write_text(json.dumps(asdict(predecessor)))

    assert processes.recorded(record) is None
    processes.kill([predecessor])

    assert bystander.alive()
    processes.kill([bystander])


def test_a_record_from_before_a_reboot_names_nobody(tmp_path: Path) -> None:
    record = tmp_path / "me.json"
    record.write_text(json.dumps(asdict(replace(processes.me(), boot="another"))))
    assert processes.recorded(record) is None


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', "[]"])
def test_a_broken_record_names_nobody(tmp_path: Path, text: str) -> None:
    record = tmp_path / "broken.json"
    record.write_text(text)
    assert processes.recorded(record) is None


def test_a_program_runs_only_after_it_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A starter that dies before the record is written leaves a shell that goes away."""
    mark = tmp_path / "it-ran"

    pids: list[int] = []

    def die(_: Path, text: str) -> None:
        pids.append(json.loads(text)["pid"])
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "write_atomically", die)
    with pytest.raises(KeyboardInterrupt):
        processes.start(tmp_path / "record", ["touch", str(mark)], log=tmp_path / "log")

    _, status = os.waitpid(pids[0], 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert not mark.exists()


@pytest.mark.parametrize("slow", [False, True], ids=["later", "before it has begun"])
def test_an_owned_process_dies_with_its_owner(tmp_path: Path, slow: bool) -> None:
    record = tmp_path / "record"
    if slow:
        late = tmp_path / "setpriv"
        late.write_text(f'#!/bin/sh\nsleep 1\nexec {shutil.which("setpriv")} "$@"\n')
        late.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    program = (
        "import sys, pathlib\n"
        "from rtj_devcluster import processes\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "processes.start(folder / 'record', ['sleep', '600'], log=folder / 'log',"
        " dies_with_caller=True)\n"
        "print('started', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, env=env) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        started = processes.recorded(record)
        assert started is not None
        owner.kill()

    wait_until(lambda: not started.alive(), what="the child is dead", timeout=60)


def test_a_program_that_does_not_exist_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DevClusterError, match="no-such-program"):
        processes.start(tmp_path / "record", ["no-such-program"], log=tmp_path / "log")


LISTEN = """
import socket, time
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    time.sleep(600)
"""


def test_a_process_listens_where_it_took_a_port_itself(tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = processes.start(tmp_path / "server.json", [sys.executable, "-c", LISTEN], log=log)
    bystander = processes.start(tmp_path / "sleep.json", ["sleep", "600"], log=tmp_path / "other")
    try:
        wait_until(lambda: bool(log.read_text()), what="the server listens", timeout=60)
        port = int(log.read_text())
        assert processes.listens(server, "127.0.0.1", port)
        assert not processes.listens(server, "127.0.0.2", port)
        assert not processes.listens(bystander, "127.0.0.1", port)
    finally:
        processes.kill([server, bystander])
    assert not processes.listens(server, "127.0.0.1", port)


def test_a_component_that_ends_while_it_starts_is_named_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    plane = ControlPlane("mine")
    script = "echo the address is in use; exit 1"
    processes.start(plane.record("dns"), ["sh", "-c", script], log=plane.log("dns"))
    with pytest.raises(DevClusterError, match=r"(?s)dns ended.*address is in use"):
        plane.await_listening("dns", "127.0.0.1", 1)
