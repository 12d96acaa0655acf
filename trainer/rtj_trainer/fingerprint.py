"""What must not change between two attempts of a job, and what changed if it did.

TensorFlow restores an iterator into a changed pipeline without a word in most cases, and then gives
other data. So a fingerprint is part of every commit and compared at every restore. Epochs and total
steps are not in it: a job may be made longer. Of the files that a builder reads by itself only the
paths are in it, as parameters: reading all data at each start would cost too much. What it reads by
`rtj_trainer.data` is in it with its contents.
"""

import hashlib
from pathlib import Path
from typing import Any

from rtj_api.names import Reason

from rtj_trainer.errors import PermanentError

_WORDS = {
    "source": "the builder's source",
    "dataset": "datasetFunction or datasetParams",
    "model": "modelFunction or modelParams",
    "seed": "the seed",
    "strategy": "the way that the position is kept",
    "pipeline": "the tf.data pipeline that the builder returns",
    "contents": "the data that rtj_trainer.data reads",
    "shuffleSeeds": "the seeds of the pipeline's shuffles",
    "elementSpec": "the shapes or types of the dataset's elements",
    "variables": "the names, shapes or types of the model's variables",
}


def of_source(paths: dict[str, Path]) -> dict[str, str]:
    """Return the sha256 of each of the builder's files, by module name."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}


def check(saved: dict[str, Any], current: dict[str, Any]) -> None:
    """Return if an attempt may go on from a commit with the fingerprint `saved`.

    Raises:
        PermanentError: `FingerprintMismatch`, naming everything that changed.
    """
    changed = [key for key in _WORDS if saved.get(key) != current.get(key)]
    if not changed:
        return
    details = [
        f"{_WORDS[key]} ({_difference(saved.get(key), current.get(key))})" for key in changed
    ]
    raise PermanentError(
        Reason.FINGERPRINT_MISMATCH,
        f"since the last commit these changed: {'; '.join(details)}. Going on would train on other "
        "data than the position speaks of. Undo the change, or create the job under a new name.",
    )


def _difference(saved: Any, current: Any) -> str:
    if isinstance(saved, dict) and isinstance(current, dict):
        keys = sorted(key for key in {*saved, *current} if saved.get(key) != current.get(key))
        return ", ".join(
            f"{key}: {_short(saved.get(key))} -> {_short(current.get(key))}" for key in keys
        )
    return f"{_short(saved)} -> {_short(current)}"


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
