"""Rehearses a pipeline with operations that no test of this project has proven, once per job.

The rules know which operations are not exact; they cannot know those that TensorFlow or a library
adds later. Such a pipeline is trained on only if a rehearsal was exact. That costs minutes at most,
and a job may be killed before its first commit many times, so the verdict is kept in the job's
folder under a digest of all that it depends on.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rtj_api.launch import TrainerConfig
from rtj_api.names import ExitCode, Reason

from rtj_trainer import files
from rtj_trainer.errors import UserError
from rtj_trainer.preflight.proven import USE_PROVEN
from rtj_trainer.preflight.refusal import refuse
from rtj_trainer.preflight.rehearsal import Plan, rehearse

_SECONDS = 60.0

log = logging.getLogger(__name__)


def settle(
    config: TrainerConfig, unproven: list[str], depends_on: dict[str, Any], folder: Path
) -> None:
    """Raise unless a pipeline with unproven operations is exact.

    Args:
        config: Of the attempt.
        unproven: The operations, for people; nothing is done if there are none.
        depends_on: What else a verdict is good for: fingerprint and versions, as JSON.
        folder: For verdicts; created if it is not there.

    Raises:
        PermanentError: `PipelineNotResumable`.
        UserError: the rehearsal failed, which may pass.
    """
    if not unproven:
        return
    verdict_file = folder / f"{_key(config, depends_on)}.json"
    if verdict_file.exists():
        log.info("the pipeline was rehearsed before: %s", verdict_file.read_text())
        return
    log.info("rehearsing the pipeline in processes of their own: unproven %s", ", ".join(unproven))
    plan = Plan(
        builder=config.builder,
        seed=config.seed,
        epochs=config.epochs,
        total_steps=config.total_steps,
        seconds=_SECONDS,
    )
    with tempfile.TemporaryDirectory(prefix="rtj-rehearsal-") as scratch:
        verdict = rehearse(plan, Path(scratch))
    names = ", ".join(unproven)
    if verdict.exit_code == ExitCode.USER_ERROR:
        why = f"the pipeline cannot be rehearsed, which {names} needs: {verdict.message}"
        raise UserError(verdict.reason or Reason.BUILDER_FAILED, why)
    if verdict.exit_code:
        refuse([f"{names}: {verdict.message}; {USE_PROVEN}"])
    if not verdict.proven:
        refuse([f"{names}: its one batch leaves nothing to rehearse; {USE_PROVEN}"])
    log.info("rehearsed: %s", verdict.message)
    try:
        files.make_directory(folder)
        files.create_exclusively(verdict_file, json.dumps(verdict.message).encode())
    except OSError as error:
        log.warning("the verdict cannot be kept for the next attempt: %s", error)


def _key(config: TrainerConfig, depends_on: dict[str, Any]) -> str:
    """Return a digest; a file or folder that a parameter names counts by its size and time."""
    data = {str(path): _stamp(path) for path in _paths(config.builder.dataset_params)}
    text = json.dumps([depends_on, data], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _paths(item)
    elif isinstance(value, str) and "\0" not in value and Path(value).exists():
        yield Path(value)


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
