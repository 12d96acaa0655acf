"""Waits until rights that were just granted count: the authoriser learns of them by a watch."""

import json
from collections.abc import Callable

from rtj_devcluster.shell import wait_until


def wait_until_may(kubectl: Callable[..., str], user: str, **attributes: str) -> None:
    """Wait until a user has a right; the attributes are those of a SubjectAccessReview."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    ask = ("create", "-f", "-", "-o", "jsonpath={.status.allowed}")
    wait_until(
        lambda: kubectl(*ask, text_input=json.dumps(review)) == "true",
        what=f"the API server lets {user} do {attributes}",
        timeout=60,
    )
