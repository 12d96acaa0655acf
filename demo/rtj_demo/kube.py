"""kubectl and helm, as a user would call them, against one cluster.

What is asked again and again goes through the client library instead: a process of kubectl costs a
fifth of a second of CPU, and a job is looked at four times a second.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client, config
from rtj_api.names import GROUP, PLURAL, VERSION
from urllib3.exceptions import HTTPError

T = TypeVar("T")
POLL_SECONDS = 0.25
READ_SECONDS = 15
PULL_SECONDS = 900
"""Longest wait for a pod to start: its node may have to pull its image first."""
PLACES = {
    "events": ("api/v1", "events"),
    "leases": ("apis/coordination.k8s.io/v1", "leases"),
    "pods": ("api/v1", "pods"),
    "persistentvolumeclaims": ("api/v1", "persistentvolumeclaims"),
    "rtj": (f"apis/{GROUP}/{VERSION}", PLURAL),
}
"""Where the API server has the namespaced kinds that are read here."""


class CommandFailedError(RuntimeError):
    """kubectl, helm or the API server said no; the message is what was printed or answered."""


class NotAnsweredError(CommandFailedError):
    """The API server was not reached, or too busy (429), or failed (5xx): asked again, it may."""


@dataclass(frozen=True)
class Kube:
    """One cluster, through the two commands that its users have.

    Attributes:
        kubectl: The command and its fixed arguments.
        helm: Likewise.
        kubeconfig: Files that name the cluster, as `KUBECONFIG` lists them.
        cache: Folder for what kubectl remembers of the cluster; another one for each, since it
            remembers by address, and addresses are used again.
    """

    kubectl: Sequence[str]
    helm: Sequence[str]
    kubeconfig: str
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
            [*command, *args],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            check=False,
            env={
                **os.environ,
                "KUBECONFIG": self.kubeconfig,
                "KUBECACHEDIR": str(self.cache),
            },
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
        """Return one object; `kind` is one of `PLACES`.

        Raises:
            NotAnsweredError: The API server did not answer.
            CommandFailedError: It is not there.
        """
        found: dict[str, Any] = self._read(kind, namespace, f"/{name}")
        return found

    def list(self, kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind, one of `PLACES`, that carry the labels of `selector`.

        Raises:
            NotAnsweredError: The API server did not answer.
        """
        items: list[dict[str, Any]] = self._read(kind, namespace, "", selector)["items"]
        return items

    @cached_property
    def _api(self) -> client.ApiClient:
        return config.new_client_from_config(self.kubeconfig)

    def _read(self, kind: str, namespace: str, tail: str, selector: str = "") -> Any:
        root, plural = PLACES[kind]
        request = self._api.param_serialize(
            "GET",
            f"/{root}/namespaces/{namespace}/{plural}{tail}",
            query_params=[("labelSelector", selector)] if selector else [],
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._api.call_api(*request, _request_timeout=READ_SECONDS)
            body = answer.read()
        except (HTTPError, OSError) as error:
            raise NotAnsweredError(f"get {kind}{tail}: {error}") from error
        if answer.status != 200:
            passing = answer.status == 429 or answer.status >= 500
            failure = NotAnsweredError if passing else CommandFailedError
            raise failure(f"get {kind}{tail}: {body.decode()}")
        return json.loads(body)


def wait_for(what: str, probe: Callable[[], T | None], timeout_seconds: float) -> T:
    """Ask `probe` until it gives something, and return that.

    A probe that the API server does not answer has given nothing yet.

    Raises:
        TimeoutError: It gave nothing in time; the message names `what`, and why there was no
            answer in the end.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        unanswered = ""
        try:
            if found := probe():
                return found
        except NotAnsweredError as error:
            unanswered = f"; {error}"
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_seconds:.0f} s for {what}{unanswered}")
        time.sleep(POLL_SECONDS)
