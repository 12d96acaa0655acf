"""The processes of rehearsals, forked from one that has imported TensorFlow and not used it yet."""

import json
import os
import runpy
import subprocess
import sys
import traceback
from types import SimpleNamespace
from typing import Any

from rtj_trainer.preflight import rehearsal


def fork_from_here() -> None:
    """Let this process, before it uses TensorFlow, have its rehearsals forked from what it is now.

    They are what `python -m` would make of them, but for the seconds that an import takes.
    """
    read_request, write_request = os.pipe()
    read_answer, write_answer = os.pipe()
    if os.fork() == 0:
        os.close(write_request)
        with os.fdopen(read_request) as requests, os.fdopen(write_answer, "w", 1) as answers:
            for line in requests:
                answers.write(f"{_forked(*json.loads(line))}\n")
        os._exit(0)
    os.close(read_request)
    os.close(write_answer)
    requests, answers = os.fdopen(write_request, "w", 1), os.fdopen(read_answer)

    def run(command: list[str], **_: Any) -> "subprocess.CompletedProcess[bytes]":
        requests.write(json.dumps(command[-3:]) + "\n")
        return subprocess.CompletedProcess(command, int(answers.readline()))

    rehearsal.subprocess = SimpleNamespace(  # type: ignore[assignment]
        run=run, TimeoutExpired=subprocess.TimeoutExpired
    )


def _forked(module: str, *arguments: str) -> int:
    """Be one of the processes, in a child; return its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        sys.argv, code = [module, *arguments], 1
        try:
            runpy.run_module(module, run_name="__main__")
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
