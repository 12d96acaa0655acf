"""What the end-to-end tests share: own clusters, a job's volume, its process, a reference run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj_api.launch import BuilderConfig, TrainerConfig
from rtj_api.names import CONFIG_ENV, POD_UID_ENV
from rtj_api.spec import JobSpec
from rtj_demo.jobs import Job, load_example
from rtj_demo.kube import wait_for
from rtj_devcluster import slots
from rtj_devcluster.cluster import Cluster

from tests.e2e.moments import Sight

RESTING = Path(__file__).parent / "builders" / "resting.py"


@contextmanager
def own_cluster(name: str) -> Iterator[Cluster]:
    """Yield a cluster for one test alone, which is not there before and gone after it."""
    cluster = Cluster(name)
    with slots.in_use(name):
        cluster.down()
        try:
            yield cluster
        finally:
            cluster.down()


def resting_example(
    job_name: str, change: Callable[[dict[str, Any]], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Return the example `iterator` as a job with ten commits, which mostly rests.

    It takes 50 s if nothing is done to it; its second attempt, 10 s for the whole.

    Args:
        job_name: Its name.
        change: Called with the job, to edit it in place.
    """

    def rest(job: dict[str, Any]) -> None:
        spec = job["spec"]
        spec["epochs"], spec["checkpoint"]["everySteps"] = 100, 100
        spec["builder"] |= {"module": "resting", "callbacksFunction": "build_callbacks"}
        change(job)

    objects = load_example("iterator", job_name, rest)
    for found in objects:
        if found["kind"] == "ConfigMap":
            found["data"]["resting.py"] = RESTING.read_text()
    return objects


def job_folder(job: Job) -> Path:
    """Return the job's folder on its claim: on the dev cluster, a folder of this machine."""
    claim = job.fetch()["spec"]["checkpoint"]["claimName"]

    def bound_to() -> str | None:
        found = job.kube.get("persistentvolumeclaims", claim, job.namespace)
        volume: str | None = found["spec"].get("volumeName")
        return volume

    volume = wait_for(f"the claim {claim} to be bound", bound_to, 60)
    host_path = json.loads(job.kube.run("get", "pv", volume, "-o", "json"))["spec"]["hostPath"]
    return Path(host_path["path"]) / job.uid()


def commits(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the manifests of all commits in a job's folder, by step."""
    manifests = [
        json.loads(found.read_text()) for found in folder.glob("commits/[0-9]*/manifest.json")
    ]
    return {manifest["step"]: manifest for manifest in manifests}


def final_commit(folder: Path) -> dict[str, Any]:
    """Return the manifest of the commit with the highest step."""
    found = commits(folder)
    return found[max(found)]


def trainer_pids(pod_uid: str) -> list[int]:
    """Return the processes of a pod's trainer, as this machine numbers them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = pod_uid in (process / "cgroup").read_text()
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue  # It ended while we looked.
        if ours and b"rtj_trainer" in command:
            found.append(int(process.name))
    return found


def sigkill_after_a_commit(job: Job) -> int:
    """Kill the first attempt's trainer soon after its first own commit; return the commit's step.

    It looks at the volume: the heartbeat may tell of a commit when the job is about to end. And the
    API server is asked before, since a busy one may answer when the job has ended.
    """
    sight = Sight(job, job_folder(job), attempt=1)
    wait_for("its fence", sight.fenced, 180)
    pids = _current_trainer(job)
    wait_for("a first commit", lambda: sight.last_commit() > 0, 180)
    _sigkill(pids)
    return sight.last_commit()


def sigkill_trainer(job: Job) -> None:
    """Kill the current attempt's trainer where it stands."""
    _sigkill(_current_trainer(job))


def _current_trainer(job: Job) -> list[int]:
    pod = job.kube.get("pods", job.pod_name(), job.namespace)
    return wait_for("the trainer's process", lambda: trainer_pids(pod["metadata"]["uid"]), 60)


def _sigkill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Reference:
    """A run of a job's trainer here, without a cluster and without a kill."""

    process: subprocess.Popen[bytes]
    volume: Path

    def finish(self) -> Path:
        """Wait for its end; return the job's folder."""
        assert self.process.wait() == 0
        return self.volume / "reference"


def start_reference(objects: list[dict[str, Any]], folder: Path) -> Reference:
    """Start a reference run, beside the job on the cluster, which mostly waits.

    Args:
        objects: The objects of an example: its ConfigMap and its job.
        folder: An empty folder for the builder and the volume.
    """
    builder = folder / "builder"
    builder.mkdir()
    for found in objects:
        if found["kind"] == "ConfigMap":
            for name, text in found["data"].items():
                (builder / name).write_text(text)
    raw = next(o for o in objects if o["kind"] == "ResumableTrainingJob")["spec"]
    spec = JobSpec.model_validate(raw)
    config = TrainerConfig(
        job_name="reference",
        job_uid="reference",
        attempt=1,
        volume=folder / "volume",
        builder=BuilderConfig(path=builder, **_calls(spec)),
        seed=spec.seed,
        epochs=spec.epochs,
        total_steps=spec.total_steps,
        checkpoint=spec.checkpoint.model_copy(update={"keep": 1000}),
    )
    (folder / "volume").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "rtj_trainer"],
        env={**os.environ, CONFIG_ENV: config.to_json(), POD_UID_ENV: "reference"},
    )
    return Reference(process, config.volume)


def _calls(spec: JobSpec) -> dict[str, Any]:
    return spec.builder.model_dump(include=set(BuilderConfig.model_fields) - {"path"})
