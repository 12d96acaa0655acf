"""Running a program to its end, and waiting for a condition: what the other modules share."""

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rtj_devcluster.errors import CommandFailedError, DevClusterError

_TAIL_CHARACTERS = 2000
_TAIL_LINES = 60


def run(
    command: Sequence[str | Path],
    *,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    text_input: str | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return its output.

    Args:
        command: The program and its arguments.
        check: Whether a status other than 0 is an error.
        env: Its whole environment; None for ours.
        text_input: What it reads.
        timeout: Seconds; None for no limit.

    Raises:
        CommandFailedError: it is not installed, took too long, or ended with a status other than 0
            that was to be checked.
    """
    arguments = [str(part) for part in command]
    try:
        done = subprocess.run(
            arguments,
            check=False,
            capture_output=True,
            text=True,
            env=env,
            input=text_input,
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise CommandFailedError(f"{arguments[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(f"{' '.join(arguments)}: not done after {timeout} s") from error
    if check and done.returncode != 0:
        printed = (done.stderr or done.stdout).strip()[-_TAIL_CHARACTERS:]
        raise CommandFailedError(f"{' '.join(arguments)}: exit status {done.returncode}\n{printed}")
    return done


def follow(
    command: Sequence[str | Path],
    each_line: Callable[[str], None],
    *,
    lock: int,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end, and hand on each line that it prints meanwhile.

    An interrupt that cuts this call short ends the program, and what that has started. Should
    the caller be killed, they go on, and hold the ``lock`` (its file descriptor) until they end.

    Raises:
        CommandFailedError: it ended with a status other than 0; the message ends with its last
            lines.
    """
    arguments = [str(part) for part in command]
    printed: deque[str] = deque(maxlen=_TAIL_LINES)
    with subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=env,
        process_group=0,
        pass_fds=[lock],
    ) as process:
        try:
            for line in process.stdout or ():
                printed.append(line)
                each_line(line)
            status = process.wait()
        except BaseException:
            # Not the program alone: a compiler or a RUN of a build would go on without it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if status != 0:
        raise CommandFailedError(f"{' '.join(arguments)} failed\n{''.join(printed)}")


def wait_until(
    condition: Callable[[], bool],
    *,
    what: str,
    timeout: float,
    every: float = 0.1,
    hint: Callable[[], str] = lambda: "",
) -> None:
    """Wait until a condition is true.

    Args:
        condition: Asked again and again.
        what: The condition in words, for the message of the error.
        timeout: Seconds.
        every: Seconds between two questions.
        hint: Returns the end of that message.

    Raises:
        DevClusterError: it was not true in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise DevClusterError(f"{what}: not within {timeout:g} s\n{hint()}".rstrip())
        time.sleep(every)


def tail(path: Path, characters: int = _TAIL_CHARACTERS) -> str:
    """Return the end of a log file for an error message; empty when there is none."""
    try:
        return path.read_text(errors="replace")[-characters:]
    except OSError:
        return ""
