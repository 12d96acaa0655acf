"""Runs what is measured in a process of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rtj_bench.say import say

_BENCH = Path(__file__).resolve().parent.parent
_TIMEOUT_SECONDS = 1200
_LINES = 15

_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONHASHSEED": "0",
    "PYTHONPATH": os.pathsep.join(
        str(_BENCH.parent / part) for part in ("bench", "crds", "trainer")
    ),
    "PYTHONUNBUFFERED": "1",
}


def ask(peer: str, question: Any, python: str = sys.executable) -> Any:
    """Return what a module of `peers` answers, or None and say why there is no answer.

    Args:
        peer: Name of the module.
        question: Its argument, as JSON.
        python: The interpreter of the environment that the peer is installed in.
    """
    command = [python, "-m", f"rtj_bench_trainer.peers.{peer}", json.dumps(question)]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **_ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"ERROR {peer}: {error}")
        return None
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-_LINES:])
        say(f"ERROR {peer} ended with {done.returncode}:\n{last}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def spawn(
    root: Path, arguments: list[str], more: dict[str, str], python: str = sys.executable
) -> "subprocess.Popen[str]":
    """Start a Python that trains on the CPU, and whose output is read as it comes.

    Args:
        root: Its working folder.
        arguments: Of Python.
        more: For its environment, which also has `STARTED`, the monotonic time in seconds.
        python: The interpreter; our packages are found from any.
    """
    environment = {**os.environ, **_ENVIRONMENT, "STARTED": str(time.monotonic()), **more}
    return subprocess.Popen(
        [python, *arguments],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def attempt_of(root: Path, attempt: int, **fields: Any) -> dict[str, str]:
    """Return the environment of an attempt of the trainer, whose builder and volume are a folder.

    Args:
        root: The folder; it has `builder.py`.
        attempt: Its number.
        fields: Further ones of the trainer's configuration.
    """
    builder = {
        "path": str(root),
        "module": "builder",
        "datasetFunction": "build_dataset",
        "datasetParams": {},
        "modelFunction": "build_model",
        "modelParams": {},
    }
    config = {"jobName": "bench", "jobUid": "bench", "attempt": attempt, "volume": str(root)}
    return {"RTJ_CONFIG": json.dumps({**config, "builder": builder, "seed": 0, **fields})}
