"""Runs what is measured in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rtj_bench.say import say

_BENCH = Path(__file__).resolve().parent.parent
_TIMEOUT_SECONDS = 1200
_LINES = 15

_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONPATH": str(_BENCH),
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
