"""What must not change between two attempts of a job, and what changed if it did.

TensorFlow restores an iterator into a changed pipeline without a word in most cases, and then gives
other data. So a fingerprint is part of every commit and compared at every restore. Epochs and total
steps are not in it: a job may be made longer. Of data files, sizes and samples are in it, since
reading all data at each start would cost too much (`rtj_trainer.data_files`). Data that is read by
`rtj_trainer.data` is in it with its contents.

Three parts may be relaxed by `spec.fingerprintPolicy`, since a change of them alone need not change
a step: the builder's text, the files, the versions.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj_api.fingerprint import FingerprintPolicy, OnChange
from rtj_api.names import Reason

from rtj_trainer.errors import PermanentError

_WORDS = {
    "source": "the builder's source",
    "dataset": "datasetFunction or datasetParams",
    "model": "modelFunction or modelParams",
    "callbacks": "callbacksFunction or callbacksParams",
    "callbackList": "the callbacks",
    "validation": "validationFunction or validationParams",
    "train": "trainFunction or trainParams",
    "seed": "the seed",
    "files": "data files",
    "fileTimes": "the times of data files",
    "strategy": "the way that the position is kept",
    "pipeline": "the tf.data pipeline that the builder returns",
    "contents": "the data that rtj_trainer.data reads",
    "shuffleSeeds": "the seeds of the pipeline's shuffles",
    "elementSpec": "the shapes or types of the dataset's elements",
    "validationPipeline": "the tf.data pipeline of the validation",
    "variables": "the names, shapes or types of the model's variables",
    "step": "what the training step computes",
    "environment": "versions or machine",
}
_LIBRARIES = ("tensorflow", "keras")
"""Entries of an environment: a later one gives operations of a pipeline further attributes."""
_PROGRAM = ("source", "dataset", "validation", "train", "files", "contents", "strategy")
"""What makes a pipeline another one, whatever the version."""
_MANY = 5
"""Files or modules of which a message tells."""


@dataclass(frozen=True)
class Fingerprint:
    """All that a commit was made with."""

    identity: dict[str, Any]
    environment: dict[str, Any]
    """From `rtj_trainer.environment`."""

    def parts(self) -> dict[str, Any]:
        """Return everything by its name in `_WORDS`."""
        return {**self.identity, "environment": self.environment}


def of_source(paths: dict[str, Path]) -> dict[str, str]:
    """Return the sha256 of each of the builder's files, by module name."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}


def check(saved: Fingerprint, current: Fingerprint, policy: FingerprintPolicy) -> str | None:
    """Return if an attempt may go on from a commit.

    Args:
        saved: Of the commit.
        current: Of this attempt.
        policy: Of the job.

    Returns:
        What changed and is to be told as a warning; None if nothing did.

    Raises:
        PermanentError: `FingerprintMismatch`, naming everything that changed and must not.
    """
    before, after = saved.parts(), current.parts()
    changed = [key for key in _WORDS if before.get(key) != after.get(key)]
    excused = _excused(saved, current, changed)
    changed = [key for key in changed if key not in excused]
    answers = {
        "source": policy.source,
        "files": policy.files,
        "fileTimes": OnChange.IGNORE if policy.files is OnChange.IGNORE else OnChange.WARN,
        "environment": policy.versions,
    }
    told: dict[OnChange, list[str]] = {answer: [] for answer in OnChange}
    for key in changed:
        difference = f"{_WORDS[key]} ({_difference(before.get(key), after.get(key))})"
        told[answers.get(key, OnChange.REFUSE)].append(difference)
    if refused := told[OnChange.REFUSE]:
        raise PermanentError(
            Reason.FINGERPRINT_MISMATCH,
            f"since the last commit these changed: {'; '.join(refused)}. Going on would train "
            "otherwise than the position speaks of. Undo the change, or create the job under a new "
            "name; spec.fingerprintPolicy says which changes may be accepted.",
        )
    warned = "; ".join(told[OnChange.WARN])
    if not warned:
        return None
    return f"since the last commit these changed: {warned}; the weights may come out otherwise"


def _excused(saved: Fingerprint, current: Fingerprint, changed: list[str]) -> set[str]:
    """Return which graphs may be others because TensorFlow writes the same program otherwise."""
    if "environment" not in changed:
        return set()
    versions = [[of.environment.get(name) for name in _LIBRARIES] for of in (saved, current)]
    if versions[0] == versions[1] or any(key in changed for key in _PROGRAM):
        return {"step"}  # Another device has other operations in it.
    return {"step", "pipeline", "validationPipeline"}


def _difference(saved: Any, current: Any) -> str:
    if isinstance(saved, dict) and isinstance(current, dict):
        keys = sorted(key for key in {*saved, *current} if saved.get(key) != current.get(key))
        words = [f"{key}: {_short(saved.get(key))} -> {_short(current.get(key))}" for key in keys]
        rest = len(words) - _MANY
        return ", ".join(words[:_MANY]) + (f" and {rest} more" if rest > 0 else "")
    return f"{_short(saved)} -> {_short(current)}"


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
