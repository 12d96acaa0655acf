"""Training jobs as their user handles them: apply the example, watch it, look at its volume."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rtj_api.heartbeat import TrainerPhase
from rtj_api.names import ANNOTATION_HEARTBEAT

from rtj_demo.kube import PULL_SECONDS, CommandFailedError, Kube, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
INSPECTOR = "volume-inspector"
FINAL_PHASES = ("Completed", "Failed")
_BEFORE_TRAINING = (TrainerPhase.STARTING, TrainerPhase.RESTORING)


def load_example(
    name: str, job_name: str, change: Callable[[dict[str, Any]], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Return the objects of `examples/<name>/manifest.yaml`, with the job renamed.

    Args:
        name: Folder of the example.
        job_name: `metadata.name` for the ResumableTrainingJob in it.
        change: Called with the job, to edit it in place.
    """
    objects = [
        found
        for found in yaml.safe_load_all((EXAMPLES / name / "manifest.yaml").read_text())
        if found
    ]
    for found in objects:
        if found["kind"] == "ResumableTrainingJob":
            found["metadata"]["name"] = job_name
            change(found)
    return objects


class NoPodError(Exception):
    """A job has no pod just now: it is over, or between two attempts."""


@dataclass(frozen=True)
class Job:
    """One ResumableTrainingJob on a cluster."""

    kube: Kube
    namespace: str
    name: str

    def fetch(self) -> dict[str, Any]:
        """Return the live object."""
        return self.kube.get("rtj", self.name, self.namespace)

    def status(self) -> dict[str, Any]:
        """Return the live status; empty before the operator first wrote it."""
        status: dict[str, Any] = self.fetch().get("status", {})
        return status

    def uid(self) -> str:
        """Return the UID, which is also the job's folder on the volume."""
        return str(self.fetch()["metadata"]["uid"])

    def heartbeat(self) -> dict[str, Any]:
        """Return the trainer's newest heartbeat, from the Lease; empty before the first."""
        try:
            lease = self.kube.get("leases", self.name, self.namespace)
        except CommandFailedError:
            return {}
        text = lease["metadata"].get("annotations", {}).get(ANNOTATION_HEARTBEAT, "{}")
        beat: dict[str, Any] = json.loads(text)
        return beat

    def step(self, attempt: int = 1) -> int:
        """Return the step of the running model, or -1 before `attempt` trains."""
        beat = self.heartbeat()
        if beat.get("attempt", 0) < attempt or beat["phase"] in _BEFORE_TRAINING:
            return -1
        return int(beat["position"]["step"])

    def wait_until(
        self, what: str, holds: Callable[[dict[str, Any]], object], timeout_seconds: float = 180
    ) -> dict[str, Any]:
        """Wait until the status satisfies `holds`, and return it.

        Raises:
            TimeoutError: It never did; the message carries the last status.
        """
        last: dict[str, Any] = {}

        def probe() -> dict[str, Any] | None:
            nonlocal last
            last = self.status()
            return last if holds(last) else None

        try:
            return wait_for(what, probe, timeout_seconds)
        except TimeoutError as late:
            raise TimeoutError(f"{late}; status was {json.dumps(last, indent=1)}") from None

    def wait_for_end(
        self,
        timeout_seconds: float = 600,
        look: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Wait until the job is Completed or Failed, and return its status.

        Args:
            timeout_seconds: How long that may take.
            look: Called with each status on the way.
        """

        def ended(status: dict[str, Any]) -> bool:
            look(status)
            return status.get("phase") in FINAL_PHASES

        return self.wait_until(f"the end of job {self.name}", ended, timeout_seconds)

    def pod_name(self) -> str:
        """Return the name of the current attempt's pod.

        Raises:
            NoPodError: There is none.
        """
        status = self.status()
        if "podName" not in status.get("attempt", {}):
            raise NoPodError(f"job {self.name} has no pod; its phase is {status.get('phase')}")
        return str(status["attempt"]["podName"])

    def node_name(self) -> str:
        """Return the node of the current attempt's pod; empty before it is scheduled.

        Raises:
            NoPodError: There is no pod.
        """
        pod = self.kube.get("pods", self.pod_name(), self.namespace)
        return str(pod["spec"].get("nodeName", ""))


def submit(kube: Kube, namespace: str, objects: list[dict[str, Any]]) -> Job:
    """Apply the objects of an example, and return its job."""
    kube.run("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(objects))
    name = next(o["metadata"]["name"] for o in objects if o["kind"] == "ResumableTrainingJob")
    return Job(kube, namespace, name)


def start_inspector(kube: Kube, namespace: str, claim: str, image: str) -> None:
    """Start a pod that mounts the claim, to put files on it and to look at what is there.

    Args:
        kube: The cluster.
        namespace: Where the claim is.
        claim: Name of the claim.
        image: Trainer image; its own tools read the volume.
    """
    pod = yaml.safe_load((EXAMPLES / "inspector.yaml").read_text())
    pod["metadata"]["namespace"] = namespace
    pod["spec"]["containers"][0]["image"] = image
    pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = claim
    kube.apply(pod)
    kube.run(
        *("wait", "-n", namespace, f"pod/{INSPECTOR}"),
        *("--for=condition=Ready", f"--timeout={PULL_SECONDS}s"),
    )


def put_file(kube: Kube, namespace: str, source: Path, target: str) -> None:
    """Copy a local file to `target` on the inspector's volume."""
    kube.run(
        *("exec", "-i", "-n", namespace, INSPECTOR, "--"),
        *("sh", "-c", f'mkdir -p "$(dirname {target})" && cat > {target}'),
        stdin=source.read_bytes(),
    )
