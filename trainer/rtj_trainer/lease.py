"""The job's Lease, spoken to the Kubernetes API with the standard library only.

The Lease says who the current trainer is. Its holder is a pod's UID, and its transitions are the
attempt's number, so a trainer that lost the job finds another holder there and stops. This is the
quick way to notice; the fence on the volume is the one that safety rests on.
"""

import http.client
import json
import os
import ssl
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from rtj_api.names import ANNOTATION_DUMP_STACKS, ANNOTATION_HEARTBEAT, LABEL_JOB_UID

from rtj_trainer.errors import SupersededError

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_SECONDS = 5.0
_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
_TAKE_OVER_TRIES = 5


class ApiError(Exception):
    """The API server could not be reached or did not do as it was asked."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ApiServer:
    """Where the API server is, and how to prove who asks; for one thread at a time.

    The connection is kept: with a thousand jobs that beat every five seconds, the API server would
    have two hundred handshakes per second to do.

    Args:
        connection: To it, not opened yet.
        token_file: Holds the token, which is read for each request, since tokens are rotated.
    """

    def __init__(
        self, connection: http.client.HTTPConnection, token_file: Path = _ACCOUNT / "token"
    ) -> None:
        self._connection = connection
        self._token_file = token_file

    @classmethod
    def in_cluster(cls) -> "ApiServer":
        """Return the server that every pod is told about.

        Raises:
            ApiError: this process is not in a pod, or has no service account.
        """
        host, port = (
            os.environ.get("KUBERNETES_SERVICE_HOST"),
            os.environ.get(
                "KUBERNETES_SERVICE_PORT_HTTPS", os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            ),
        )
        certificate = _ACCOUNT / "ca.crt"
        if not host or not certificate.exists():
            raise ApiError(f"not in a pod with a service account ({certificate} is missing)")
        context = ssl.create_default_context(cafile=str(certificate))
        return cls(
            http.client.HTTPSConnection(host, int(port), timeout=_TIMEOUT_SECONDS, context=context)
        )

    def request(self, method: str, path: str, body: Any = None, kind: str = _JSON) -> Any:
        """Send a request and return the decoded answer.

        It may arrive twice, where a kept connection breaks after it was sent.

        Raises:
            ApiError: with the HTTP status, or None where there was no answer.
        """
        content = None if body is None else json.dumps(body).encode()
        kept = self._connection.sock is not None
        try:
            try:
                status, answer = self._exchange(method, path, content, kind)
            except (OSError, http.client.HTTPException):
                if not kept:
                    raise
                # It may have been closed at any time since the last request.
                status, answer = self._exchange(method, path, content, kind)
            if status >= HTTPStatus.BAD_REQUEST:
                raise ApiError(f"{method} {path}: {status} {answer[:300]!r}", status)
            return json.loads(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"{method} {path}: {type(error).__name__}: {error}") from error

    def _exchange(
        self, method: str, path: str, content: bytes | None, kind: str
    ) -> tuple[int, bytes]:
        token = self._token_file.read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
        try:
            self._connection.request(method, path, content, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except BaseException:
            self._connection.close()  # The next request opens it again.
            raise


class Lease:
    """The Lease of one job, seen from one attempt.

    A job that is made anew under the name of a deleted one has a Lease of that name too.
    """

    def __init__(
        self,
        server: ApiServer,
        namespace: str,
        name: str,
        *,
        job_uid: str,
        attempt: int,
        pod_uid: str,
    ) -> None:
        self._server = server
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        self._job_uid = job_uid
        self._attempt = attempt
        self._pod_uid = pod_uid
        self._held = False

    def beat(self, heartbeat: str) -> str | None:
        """Renew the Lease with this heartbeat, taking it over first where it is not held yet.

        Returns the standstill that the operator asks about, or None.

        Raises:
            SupersededError: a newer attempt holds it, or it is another job's by now.
            ApiError: nobody knows; try again later.
        """
        if self._held:
            try:
                return _question(self._renew(heartbeat))
            except ApiError as error:
                if error.status not in (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND):
                    raise
                # Another holder, or a Lease that was made anew: look before judging.
                self._held = False
        return _question(self._take_over(heartbeat))

    def _renew(self, heartbeat: str) -> Any:
        annotation = ANNOTATION_HEARTBEAT.replace("~", "~0").replace("/", "~1")
        patch = [
            {"op": "test", "path": "/spec/holderIdentity", "value": self._pod_uid},
            {"op": "add", "path": "/spec/renewTime", "value": _now()},
            {"op": "add", "path": f"/metadata/annotations/{annotation}", "value": heartbeat},
        ]
        return self._server.request("PATCH", self._path, patch, _JSON_PATCH)

    def _take_over(self, heartbeat: str) -> Any:
        for _ in range(_TAKE_OVER_TRIES):
            lease = self._server.request("GET", self._path)
            spec, metadata = lease.setdefault("spec", {}), lease["metadata"]
            self._check_job(metadata)
            self._check_holder(spec)
            spec["holderIdentity"] = self._pod_uid
            spec["leaseTransitions"] = self._attempt
            spec["renewTime"] = _now()
            metadata["annotations"] = {
                **(metadata.get("annotations") or {}),
                ANNOTATION_HEARTBEAT: heartbeat,
            }
            # Nobody applies a Lease, so nobody asks who set which field; without a word of that,
            # the API server need not find it out at every beat.
            metadata["managedFields"] = [{}]
            try:
                # With the resourceVersion of the GET: a change in between is a conflict.
                taken = self._server.request("PUT", self._path, lease)
            except ApiError as error:
                if error.status != HTTPStatus.CONFLICT:
                    raise
                continue
            self._held = True
            return taken
        raise ApiError(f"{self._path} changed {_TAKE_OVER_TRIES} times while it was taken over")

    def _check_job(self, metadata: dict[str, Any]) -> None:
        owner = (metadata.get("labels") or {}).get(LABEL_JOB_UID)
        if owner not in (None, self._job_uid):
            raise SupersededError(
                f"the Lease belongs to another job of this name by now: its label {LABEL_JOB_UID} "
                f"is {owner}, and this job's uid {self._job_uid}"
            )

    def _check_holder(self, spec: dict[str, Any]) -> None:
        transitions = spec.get("leaseTransitions") or 0
        holder = spec.get("holderIdentity")
        if transitions > self._attempt:
            raise SupersededError(f"attempt {transitions} holds the Lease of this job")
        if transitions == self._attempt and holder and holder != self._pod_uid:
            raise SupersededError(f"pod {holder} holds the Lease of this job for this attempt")


def _question(lease: Any) -> str | None:
    return (lease["metadata"].get("annotations") or {}).get(ANNOTATION_DUMP_STACKS)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
