"""Calls kubectl as an administrator of a cluster."""

import json
import os
from pathlib import Path
from typing import Any

from rtj_devcluster import kubebox
from rtj_devcluster.shell import run


def environment(kubeconfig: Path) -> dict[str, str]:
    """Return the environment in which kubectl and Helm speak to this cluster.

    What they remember of an API server they remember by its address, which may be another
    cluster's tomorrow: each cluster has a memory of its own.
    """
    memory = kubeconfig.parent / "kubectl-cache"
    return {**os.environ, "KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(memory)}


def call(kubeconfig: Path, *arguments: str, text_input: str | None = None) -> str:
    """Run kubectl and return what it printed.

    Raises:
        CommandFailedError: it ended with an error; the message holds its words.
    """
    program = kubebox.binary("kubectl")
    command = [str(program), *arguments]
    return run(command, env=environment(kubeconfig), text_input=text_input).stdout


def get(kubeconfig: Path, *arguments: str) -> Any:
    """Return what ``kubectl get … -o json`` says."""
    return json.loads(call(kubeconfig, "get", *arguments, "-o", "json"))
