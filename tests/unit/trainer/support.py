"""Jobs on a temporary volume, run by real trainer processes."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rtj_api.names import ExitCode
from rtj_trainer.commits.layout import JobDirectory
from rtj_trainer.commits.manifest import Manifest, read_manifest
from rtj_trainer.inspection.epochs import check_epoch, epochs_of
from rtj_trainer.ledger import Entry, committed_trajectory

HERE = Path(__file__).parent
BUILDERS = HERE / "builders"
REPOSITORY = HERE.parents[2]


Outcome = tuple[str, str, list[Entry]]

_START = re.compile(r"going on from commit \S+, step (\d+)|training starts at step (0)")


class AttemptServer:
    """The process of `attempt_server.py`.

    Args:
        scratch: The folder for temporary files, which a killed TensorFlow leaves behind.
        hash_seed: Of its attempts: two servers are two processes that order sets otherwise.
    """

    def __init__(self, scratch: Path, hash_seed: str = "0") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.trainer.attempt_server"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                "TMPDIR": str(scratch),
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "PYTHONHASHSEED": hash_seed,
                "CUDA_VISIBLE_DEVICES": "-1",
            },
        )
        assert self._readline() == "ready"

    def run(self, request: dict[str, Any]) -> int:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._readline())

    def _readline(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=120)


@dataclass(frozen=True)
class Kill:
    """A signal that a trainer sends itself at the n-th time that it gets to a moment."""

    moment: str
    count: int = 1
    signal: str = "SIGKILL"
    before: bool = False
    then: "Kill | None" = None
    """A second signal, at a moment that is counted from the start, too."""

    def __str__(self) -> str:
        name = f"{self.signal}-{'before' if self.before else 'after'}-{self.moment}-{self.count}"
        return f"{name}-then-{self.then}" if self.then else name

    @property
    def last_signal(self) -> str:
        return self.then.last_signal if self.then else self.signal


@dataclass
class Job:
    """A job on a volume, and its attempts so far."""

    server: AttemptServer
    folder: Path
    config: dict[str, Any]
    attempts: int = 0
    codes: list[int] = field(default_factory=list)
    patches: list[Path] = field(default_factory=list)

    @property
    def directory(self) -> JobDirectory:
        return JobDirectory(self.folder / "volume" / "uid")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text() if (self.folder / "log").exists() else ""

    def run(self, kill: Kill | None = None, **changes: Any) -> int:
        """Run the next attempt and return its exit code, negative for a signal."""
        self.attempts = changes.pop("attempt", self.attempts + 1)
        self.termination_log.write_text("")
        config = {**self.config, "attempt": self.attempts, **changes}
        code = self.server.run(
            {
                "log": str(self.folder / "log"),
                "kill": asdict(kill) if kill else None,
                "patches": [str(path) for path in self.patches],
                "env": {
                    "RTJ_CONFIG": json.dumps(config),
                    "RTJ_POD_UID": f"pod-{self.attempts}",
                    "RTJ_TERMINATION_LOG": str(self.termination_log),
                },
            }
        )
        self.codes.append(code)
        return code

    def run_to_end(self, *kills: Kill, goes_on: bool | None = None) -> None:
        """Run an attempt for each kill, then one that completes.

        Args:
            kills: In their order.
            goes_on: Whether that one goes on from a commit; if it began anew, it would prove
                nothing of a restart. None leaves open whether the last kill comes before a commit
                is durable; what is certain is asserted in any case.
        """
        for kill in kills:
            code = self.run(kill)
            expected = (-9,) if kill.last_signal == "SIGKILL" else (ExitCode.PREEMPTED,)
            assert code in expected, f"{kill}: exit {code}\n{self.log[-3000:]}"
        assert self.run() == ExitCode.COMPLETED, self.log[-3000:]
        if kills and goes_on is None and self._surely_commits(kills[-1]):
            goes_on = True
        if goes_on is not None:
            assert (self.starts[-1] > 0) is goes_on, f"the attempts began at steps {self.starts}"

    def _surely_commits(self, kill: Kill) -> bool:
        """Whether an attempt leaves a commit: it is asked to, or has begun the one after it."""
        every = self.config["checkpoint"].get("everySteps")
        takes_steps = kill.moment == "step" and kill.then is None
        asked = kill.signal == "SIGTERM"
        return takes_steps and (asked or bool(every and kill.count > 2 * every))

    @property
    def starts(self) -> list[int]:
        """The step that each attempt began at, those left out that were killed before."""
        return [int(step or zero) for step, zero in _START.findall(self.log)]

    @property
    def termination_log(self) -> Path:
        return self.folder / "termination-log"

    @property
    def final_record(self) -> dict[str, Any]:
        """What the last attempt left in its termination message."""
        record: dict[str, Any] = json.loads(self.termination_log.read_text())
        return record

    @property
    def last_manifest(self) -> Manifest:
        return _last_manifest(self.directory)

    def outcome(self) -> Outcome:
        return outcome_at(self.directory)


def outcome_at(directory: JobDirectory) -> Outcome:
    """Return the hash of the last state, the ledger's, and the trajectory."""
    manifest = _last_manifest(directory)
    assert manifest.complete
    return manifest.state_sha256, manifest.ledger_hash, committed_trajectory(directory.root)


def _last_manifest(directory: JobDirectory) -> Manifest:
    return read_manifest(directory.commit(directory.commit_ids()[-1]))


MakeJob = Callable[..., Job]
"""(builder: a folder, or the source of a module; fields of the configuration) -> Job."""
Whole = Callable[..., Job]
"""(datasetFunction of `builder`, epochs, modelFunction) -> Job."""


def create_job(
    server: AttemptServer, folder: Path, builder: Path | str = BUILDERS, **changes: Any
) -> Job:
    """Make a job; `changes` are fields of its configuration or of its builder."""
    (folder / "volume").mkdir()
    if isinstance(builder, str):
        source, builder = builder, folder / "builder"
        builder.mkdir()
        (builder / "builder.py").write_text(source)
    spec = {
        "path": str(builder),
        "module": "builder",
        "datasetFunction": "build_dataset",
        "datasetParams": {},
        "modelFunction": "build_model",
        "modelParams": {},
        **{key: changes.pop(key) for key in list(changes) if key in _BUILDER_KEYS},
    }
    config = {
        "jobName": "job",
        "jobUid": "uid",
        "volume": str(folder / "volume"),
        "builder": spec,
        "seed": 7,
        "epochs": 3,
        "totalSteps": None,
        "checkpoint": {"claimName": "claim", "everySteps": 5, "keep": 3},
        **changes,
    }
    return Job(server, folder, config)


def fork(make_job: MakeJob, origin: Job, commit: str = "latest", **changes: Any) -> Job:
    """Return a new job on the same volume that starts from a commit of another."""
    same = {key: origin.config["builder"][key] for key in ("datasetFunction", "modelFunction")}
    job = make_job(**{**same, **changes})
    shutil.copytree(origin.directory.root, job.folder / "volume" / "other")
    job.config["forkFrom"] = {"jobUid": "other", "commit": commit}
    return job


def copy_of(job: Job, folder: Path) -> Job:
    """Return a job that had the same attempts, with a volume and a log of its own.

    Args:
        job: Not changed; its folder is copied.
        folder: For the copy; it may exist.
    """
    shutil.copytree(job.folder, folder, dirs_exist_ok=True)
    config = deepcopy({**job.config, "volume": str(folder / "volume")})
    return replace(job, folder=folder, config=config, codes=[*job.codes], patches=[*job.patches])


_BUILDER_KEYS = {
    "path",
    "module",
    "datasetFunction",
    "datasetParams",
    "modelFunction",
    "modelParams",
    "callbacksFunction",
    "callbacksParams",
    "validationFunction",
    "validationParams",
    "batchFunction",
    "batchParams",
    "trainFunction",
    "trainParams",
}


def check_each_id_once_per_epoch(
    entries: Iterable[Entry],
    expected: Collection[int | str],
    last_is_whole: bool = True,
    dropped: int = 0,
) -> dict[int, int]:
    """Return the number of examples per epoch, if `check_epoch` finds nothing wrong in any.

    Args:
        entries: The trajectory.
        expected: The ids that an epoch draws from.
        last_is_whole: Whether the last epoch may not lack any.
        dropped: How many of them each epoch leaves out.
    """
    counts = {}
    for epoch in epochs_of(entries):
        assert not epoch.unnamed
        check_epoch(epoch, expected, last_is_whole or not epoch.is_last, dropped)
        counts[epoch.index] = epoch.examples
    return counts
