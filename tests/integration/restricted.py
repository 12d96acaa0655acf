"""A namespace that takes no pod below the Pod Security Standard `restricted`."""

import json
from collections.abc import Callable

from rtj_devcluster.errors import CommandFailedError
from rtj_devcluster.shell import wait_until

LABEL = "pod-security.kubernetes.io/enforce=restricted"
UNSAFE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "unsafe"},
    "spec": {"containers": [{"name": "unsafe", "image": "none"}]},
}


def restrict(kubectl: Callable[..., str], namespace: str) -> None:
    """Make a namespace such a one, and wait until it is: admission learns of labels by a watch."""
    kubectl("label", "namespace", namespace, LABEL)

    def refuses() -> bool:
        try:
            probe = ("create", "--dry-run=server", "-n", namespace, "-f", "-")
            kubectl(*probe, text_input=json.dumps(UNSAFE))
        except CommandFailedError as error:
            return "violates PodSecurity" in str(error)
        return False

    wait_until(refuses, what=f"namespace {namespace} refuses an unsafe pod", timeout=60)
