"""Processes that outlive the command that started them, and that only their owner ends.

A process is known by its pid, its start time and the boot of the machine that
both belong to: a pid alone may by now be somebody else's. The record is on disk
before the program runs: the child is first a shell that waits at a gate, and a
starter that is killed before it opened the gate leaves a shell that reads end of
file and goes away. So no process of ours ever runs unrecorded.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.paths import write_atomically

_GATE = 'read -r _ || exit 1; exec "$@" </dev/null'
_OWNED_GATE = '[ "$PPID" = "$0" ] || exit 1; ' + _GATE
"""An owner that died before the wish to die with it was made is not the parent any more."""
_KILL_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Process:
    """One process on this machine, told apart from a later one with the same pid."""

    pid: int
    started: int
    """Clock ticks between boot and start: field 22 of ``/proc/<pid>/stat``, see proc(5)."""
    boot: str

    @classmethod
    def of_pid(cls, pid: int) -> "Process | None":
        """Return the process that has this pid now; None when there is none, or it is a zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The second field is the program's name in brackets and may itself hold brackets.
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in "ZX" else cls(pid, int(fields[18]), _boot_id())

    def alive(self) -> bool:
        """Say whether this very process still runs."""
        return Process.of_pid(self.pid) == self


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def me() -> Process:
    """Return the calling process."""
    current = Process.of_pid(os.getpid())
    if current is None:
        raise DevClusterError("/proc does not show the processes of this machine")
    return current


def start(
    record: Path,
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    dies_with_caller: bool = False,
) -> Process:
    """Start a program in a session of its own, and record it before it runs.

    Args:
        record: File for what it is known by.
        command: The program and its arguments.
        log: File that its output is appended to.
        env: Its whole environment; None for ours.
        dies_with_caller: Whether the kernel kills it when the calling thread ends, however it ends.

    Raises:
        DevClusterError: there is no such program, or it ended at once.
    """
    arguments = _behind_gate(command, dies_with_caller)
    log.parent.mkdir(parents=True, exist_ok=True)
    gate_out, gate_in = os.pipe()
    try:
        pid = os.posix_spawnp(
            arguments[0],
            arguments,
            dict(env if env is not None else os.environ),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, gate_out, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        process = Process.of_pid(pid)
        if process is None:
            raise DevClusterError(f"{command[0]} could not be started, see {log}")
        write_atomically(record, json.dumps(asdict(process)))
        os.write(gate_in, b"\n")
    finally:
        os.close(gate_out)
        os.close(gate_in)
    return process


def _behind_gate(command: Sequence[str | Path], dies_with_caller: bool) -> list[str]:
    """Return a command that waits for a line on its standard input before it becomes this one."""
    program = shutil.which(str(command[0]))
    if program is None:
        raise DevClusterError(f"{command[0]}: no such program")
    gate = ["/bin/sh", "-c", _GATE, "sh"]
    if dies_with_caller:
        # The wish to die comes before the gate, which looks for the caller: whenever that dies,
        # one of the two notices.
        wish = ["setpriv", "--pdeathsig", "KILL"]
        gate = [*wish, "/bin/sh", "-c", _OWNED_GATE, str(os.getpid())]
    return [*gate, program, *map(str, command[1:])]


def recorded(record: Path) -> Process | None:
    """Return the process that a record names, if that very process still runs."""
    try:
        process = Process(**json.loads(record.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return process if process.alive() else None


def listens(process: Process, address: str, port: int) -> bool:
    """Say whether this very process, and not another, takes TCP connections at an IPv4 address."""
    place = f"{socket.inet_aton(address)[::-1].hex().upper()}:{port:04X}"
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]  # See proc_pid_net(5).
    fields = [line.split() for line in table]
    listeners = {f"socket:[{row[9]}]" for row in fields if row[1] == place and row[3] == "0A"}
    with contextlib.suppress(OSError):  # It has just ended.
        files = Path(f"/proc/{process.pid}/fd").iterdir()
        return process.alive() and any(str(file.readlink()) in listeners for file in files)
    return False


def kill(targets: Iterable[Process]) -> None:
    """SIGKILL these processes, and return when they are gone.

    Raises:
        DevClusterError: one of them is still there after a minute.
    """
    handles: dict[int, int] = {}
    try:
        for process in targets:
            handle = _open(process)
            if handle is not None:
                handles[handle] = process.pid
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        _await_end(handles)
    finally:
        for handle in handles:
            os.close(handle)


def _open(process: Process) -> int | None:
    """Return a handle that stays with this very process, or None when it has ended."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # The handle is ours now, so what it points to cannot change between this look and the kill.
    if process.alive():
        return handle
    os.close(handle)
    return None


def _await_end(handles: dict[int, int]) -> None:
    deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
    waiting = set(handles)
    while waiting:
        left = deadline - time.monotonic()
        ended, _, _ = select.select(list(waiting), [], [], max(left, 0))
        if not ended:
            pids = sorted(handles[handle] for handle in waiting)
            raise DevClusterError(f"processes {pids} do not end although they were killed")
        waiting -= set(ended)
        for handle in ended:
            _reap(handles[handle])


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # Somebody else's child: init reaps it.
        os.waitpid(pid, os.WNOHANG)
