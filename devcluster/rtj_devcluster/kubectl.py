"""Calls kubectl as an administrator of a cluster."""

import json
from pathlib import Path
from typing import Any

from rtj_devcluster import kubebox
from rtj_devcluster.shell import run


def call(kubeconfig: Path, *arguments: str, text_input: str | None = None) -> str:
    """Run kubectl and return what it printed.

    Raises:
        CommandFailedError: it ended with an error; the message holds its words.
    """
    program = kubebox.binary("kubectl")
    command = [str(program), f"--kubeconfig={kubeconfig}", *arguments]
    return run(command, text_input=text_input).stdout


def get(kubeconfig: Path, *arguments: str) -> Any:
    """Return what ``kubectl get … -o json`` says."""
    return json.loads(call(kubeconfig, "get", *arguments, "-o", "json"))
