"""kubectl and helm, as a user would call them, against one cluster."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.25


class CommandFailedError(RuntimeError):
    """kubectl or helm said no; the message is what it printed."""


@dataclass(frozen=True)
class Kube:
    """One cluster, through the two commands that its users have.

    Attributes:
        kubectl: The command and its fixed arguments.
        helm: Likewise.
        kubeconfig: File that names the cluster.
        cache: Folder for what kubectl remembers of the cluster; another one for each, since it
            remembers by address, and addresses are used again.
    """

    kubectl: Sequence[str]
    helm: Sequence[str]
    kubeconfig: Path
    cache: Path

    def run(self, *args: str, stdin: str | bytes | None = None) -> str:
        """Run kubectl and return what it printed.

        Raises:
            CommandFailedError: kubectl ended with a non-zero code.
        """
        return self._call(self.kubectl, args, stdin)

    def run_helm(self, *args: str) -> str:
        """Run helm and return what it printed.

        Raises:
            CommandFailedError: helm ended with a non-zero code.
        """
        return self._call(self.helm, args, None)

    def _call(self, command: Sequence[str], args: Sequence[str], stdin: str | bytes | None) -> str:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*command, "--kubeconfig", str(self.kubeconfig), *args],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            check=False,
            env={**os.environ, "KUBECACHEDIR": str(self.cache)},
        )
        if done.returncode:
            raise CommandFailedError(
                f"{Path(command[0]).name} {' '.join(args)}: {done.stderr.decode().strip()}"
            )
        return done.stdout.decode()

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects, as `kubectl apply -f` of a file that holds them all."""
        self.run("apply", "-f", "-", stdin="\n---\n".join(json.dumps(o) for o in objects))

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """Return one object.

        Raises:
            CommandFailedError: It is not there.
        """
        answer: dict[str, Any] = json.loads(
            self.run("get", kind, name, "-n", namespace, "-o", "json")
        )
        return answer

    def list(self, kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind that carry the labels of `selector`."""
        chosen = ["-l", selector] if selector else []
        answer = json.loads(self.run("get", kind, "-n", namespace, "-o", "json", *chosen))
        items: list[dict[str, Any]] = answer["items"]
        return items


def wait_for(what: str, probe: Callable[[], T | None], timeout_seconds: float) -> T:
    """Ask `probe` until it gives something, and return that.

    Raises:
        TimeoutError: It gave nothing in time; the message names `what`.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_seconds:.0f} s for {what}")
        time.sleep(POLL_SECONDS)
