"""The jobs whose nodes die, what can be seen of them from outside, and the moments of death."""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj_demo.jobs import Job

BUILDERS = Path(__file__).parent / "builders"
EPOCH_STEPS, EPOCHS, EVERY = 20, 5, 10
TOTAL = EPOCHS * EPOCH_STEPS
HOST = "kubernetes.io/hostname"


@dataclass(frozen=True)
class Sight:
    """What can be seen of an attempt: its volume, and its pod."""

    job: Job
    folder: Path
    attempt: int

    def has_a_node(self) -> bool:
        current = self.job.status().get("attempt", {})
        return current.get("number") == self.attempt and bool(current.get("nodeName"))

    def fenced(self) -> bool:
        return self.fence.exists()

    @property
    def fence(self) -> Path:
        return self.folder / "attempts" / f"{self.attempt:06d}.json"

    @property
    def start_record(self) -> Path:
        return self.folder / "attempts" / f"{self.attempt:06d}.start.json"

    def chose_its_start(self) -> bool:
        return self.start_record.exists()

    def trains(self) -> bool:
        return self.job.step(self.attempt) >= 0

    def committing(self) -> bool:
        # Before, it links the commit that it goes on from.
        tmp = self.folder.glob(f"commits/tmp-*-{self.attempt:06d}*")
        return self.chose_its_start() and any(tmp)

    def commits(self) -> dict[int, Path]:
        """Return the folders of the commits that it trained, by step."""
        if not self.chose_its_start():
            return {}
        origin = json.loads(self.start_record.read_text())["startsFrom"]
        found = self.folder.glob(f"commits/[0-9]*-{self.attempt:06d}*")
        steps = {_step(commit.name): commit for commit in found}
        return {step: steps[step] for step in steps if origin is None or step > _step(origin)}

    def last_commit(self) -> int:
        """Step of its newest commit, or -1."""
        return max(self.commits(), default=-1)

    def between_commits(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            newest = max((c.stat().st_ctime for c in self.commits().values()), default=time.time())
            return time.time() - newest > BETWEEN_SECONDS and not self.committing()
        return False

    def at_the_end_of_an_epoch(self) -> bool:
        step = self.last_commit()
        return 0 < step < TOTAL and step % EPOCH_STEPS == 0


def _step(commit: str) -> int:
    return int(commit.partition("-")[0])


Moment = Callable[[Sight], bool]
BETWEEN_SECONDS = 0.2
"""Some steps after a commit, and well before the next."""
EARLY: dict[str, Moment] = {
    "before its container runs": Sight.has_a_node,
    "while starting": Sight.fenced,
    "before its first commit": Sight.trains,
    "in the middle of a commit": Sight.committing,
    "right after a commit": lambda sight: sight.last_commit() > 0,
    "while restoring": Sight.chose_its_start,
    "and at once again, while starting": Sight.fenced,
}
LATE: dict[str, Moment] = {
    "between two commits": Sight.between_commits,
    "at the end of an epoch": Sight.at_the_end_of_an_epoch,
    "in the last epoch": lambda sight: sight.last_commit() >= TOTAL - EPOCH_STEPS,
}


def _objects(name: str, module: str, nodes: list[str], **spec: Any) -> list[dict[str, Any]]:
    """Return a job that runs on these nodes only, with its builder and its claim."""
    request = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}}}
    term = {"matchExpressions": [{"key": HOST, "operator": "In", "values": nodes}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    spec["builder"]["configMap"] = {"name": name}
    spec["checkpoint"]["claimName"] = name
    spec["trainer"] = {
        "image": "docker.io/library/rtj-trainer:dev",
        "podTemplate": {"spec": {"affinity": {"nodeAffinity": required}}},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"builder.py": (BUILDERS / module).read_text()},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": request,
        },
        {
            "apiVersion": "resumable.training/v1alpha1",
            "kind": "ResumableTrainingJob",
            "metadata": {"name": name},
            "spec": {"seed": 11, "failurePolicy": {"maxNoProgressRestarts": 10}, **spec},
        },
    ]


def heavy(name: str, nodes: list[str]) -> list[dict[str, Any]]:
    """Return a job whose every stage lasts long enough to be hit."""
    return _objects(
        name,
        "moments.py",
        nodes,
        builder={
            "datasetParams": {"examples": 10 * EPOCH_STEPS, "batch_size": 10},
            "modelParams": {"width": 500_000, "start_seconds": 1.0},
        },
        epochs=EPOCHS,
        checkpoint={"everySteps": EVERY, "keep": 1000},
    )


def blind(name: str, nodes: list[str]) -> list[dict[str, Any]]:
    """Return a job whose first attempt does not see its successor's fence for a minute."""
    return _objects(
        name,
        "blind.py",
        nodes,
        builder={"datasetParams": {"examples": 20, "batch_size": 10}},
        epochs=400,
        checkpoint={"everySteps": 4, "keep": 3},
    )
