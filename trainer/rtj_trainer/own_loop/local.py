"""A session in a program of its own: in a job's pod, or anywhere with a folder for the commits."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError
from rtj_api.checkpoint import CheckpointPolicy
from rtj_api.launch import BuilderConfig, TrainerConfig
from rtj_api.names import CONFIG_ENV, Reason

from rtj_trainer.attempt import opened
from rtj_trainer.commits.layout import JobDirectory
from rtj_trainer.errors import PermanentError, StopError
from rtj_trainer.process import TrainerProcess, read_config

if TYPE_CHECKING:
    from rtj_trainer.own_loop.session import Session

_LOCAL = "local"


@dataclass(frozen=True)
class LocalRun:
    """The arguments of `rtj_trainer.session`."""

    folder: str | os.PathLike[str] | None
    epochs: int | None
    total_steps: int | None
    seed: int
    every_steps: int | None
    every_seconds: int | None
    keep: int


@contextmanager
def opened_session(run: LocalRun) -> Iterator["Session"]:
    """Open the session of this process; see `rtj_trainer.session`."""
    process = TrainerProcess()
    try:
        config = read_config() if os.environ.get(CONFIG_ENV) else _config(run)
        heart = process.begin(config)
        with opened(config, process.pod_uid, heart, process.stop) as attempt:
            from rtj_trainer.own_loop.session import session_of

            with session_of(attempt, lambda: sys.modules["__main__"]) as session:
                try:
                    yield session
                except SystemExit as error:
                    session.check_exit(error)
                    process.complete(session.outcome)
                    raise
    except Exception as error:
        code = process.fail(error)
        if isinstance(error, StopError) or process.stop.raised:
            raise SystemExit(int(code)) from error
        raise
    process.complete(session.outcome)
    process.stop.uninstall()


def _config(run: LocalRun) -> TrainerConfig:
    if run.folder is None:
        _refuse("folder", "outside of a job, a folder for the commits must be given")
    if (run.epochs is None) == (run.total_steps is None):
        _refuse("epochs", "give exactly one of epochs and total_steps")
    volume = Path(run.folder).absolute()
    main = getattr(sys.modules["__main__"], "__file__", None)
    spec: dict[str, Any] = {
        "job_name": volume.name,
        "job_uid": _LOCAL,
        "attempt": _next_attempt(JobDirectory(volume / _LOCAL)),
        "volume": volume,
        "builder": BuilderConfig(
            path=Path(main).absolute().parent if main else None,
            module="__main__",
            dataset_function="",
            dataset_params={},
            model_function="",
            model_params={},
        ),
        "seed": run.seed,
        "epochs": run.epochs,
        "total_steps": run.total_steps,
    }
    try:
        policy = CheckpointPolicy(
            claim_name=_LOCAL,
            every_steps=run.every_steps,
            every_seconds=run.every_seconds,
            keep=run.keep,
        )
        return TrainerConfig(**spec, checkpoint=policy)
    except ValidationError as error:
        first = error.errors()[0]
        _refuse(str(first["loc"][-1]), f"{first['msg']} (got {first['input']!r})")


def _next_attempt(job: JobDirectory) -> int:
    return max(job.fenced_attempts(), default=0) + 1 if job.attempts.is_dir() else 1


def _refuse(name: str, why: str) -> NoReturn:
    raise PermanentError(Reason.INVALID_SPEC, f"rtj_trainer.session(): {name}: {why}")
