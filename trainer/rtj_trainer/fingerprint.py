"""What must not change between two attempts of a job, and what changed if it did.

TensorFlow restores an iterator into a changed pipeline without a word in most cases, and then gives
other data. So a fingerprint is part of every commit and compared at every restore. Epochs and total
steps are not in it: a job may be made longer. Of data files, sizes and samples are in it, since
reading all data at each start would cost too much (`rtj_trainer.data_files`). Data that is read by
`rtj_trainer.data` is in it with its contents.

Three parts may be relaxed by `spec.fingerprintPolicy`, since a change of them alone need not change
a step: the builder's text, the files, the versions. A fourth is the batch size, where the position
is an example's place. Of the parts that depend on it, those are compared which the builder gives in
batches of the size before, so that nothing else can change under its cover.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rtj_api.fingerprint import FingerprintPolicy, OnChange
from rtj_api.names import Reason

from rtj_trainer.cutting import Cutting
from rtj_trainer.errors import PermanentError

_WORDS = {
    "source": "the builder's source",
    "dataset": "datasetFunction or datasetParams",
    "batch": "batchFunction or batchParams",
    "model": "modelFunction or modelParams",
    "callbacks": "callbacksFunction or callbacksParams",
    "callbackList": "the callbacks",
    "validation": "validationFunction or validationParams",
    "train": "trainFunction or trainParams",
    "batchSize": "the batch size",
    "dropRemainder": "drop_remainder",
    "shuffle": "whether the examples are shuffled",
    "seed": "the seed",
    "hashSeed": "the order of sets by PYTHONHASHSEED",
    "files": "data files",
    "fileTimes": "the times of data files",
    "strategy": "the way that the position is kept",
    "pipeline": "the tf.data pipeline that the builder returns",
    "contents": "the data that rtj_trainer.data reads",
    "shuffleSeeds": "the seeds of the pipeline's shuffles",
    "elementSpec": "the shapes or types of the dataset's elements",
    "validationPipeline": "the tf.data pipeline of the validation",
    "validationContents": "the data that rtj_trainer.data reads for the validation",
    "variables": "the number, shapes or types of the variables",
    "variableNames": "the attributes or names that lead to the variables",
    "step": "what the training step computes",
    "captured": "the constants or tables that the training step reads, or which variables",
    "constants": "the contents of constants or tables that the training step reads",
    "environment": "versions or machine",
}
_LATER = (
    *("batch", "batchSize", "dropRemainder", "shuffle", "validationContents"),
    *("constants", "variableNames"),
)
"""What commits of older versions do not tell."""
_LIBRARIES = ("tensorflow", "keras")
"""Entries of an environment: a later one gives operations of a pipeline further attributes."""
_PROGRAM = ("source", "files", "batchSize")
"""What makes a graph another one, whatever the version, and a policy may accept."""
_PIPELINES = {"pipeline", "validationPipeline"}
_STEP = {"step", "captured"}
_TO_REBATCH = (
    " With spec.fingerprintPolicy.batchSize: Warn, a fork goes on at the next example with another "
    "batch size, if nothing else of its dataset differs."
)
_UNSEEN = (
    " Another version of TensorFlow or Keras may write the same graphs otherwise, and so may a GPU "
    "where there was none, but the builder imports {}, whose text is not compared and may have "
    "changed as well. Go on with the versions of the commit, and on a GPU if it was made on one; "
    "in jobs to come, put such modules beside the builder."
)
_MEND_JOB = (
    ", and this job is finished; its commits stay. Undo the change and create a new job with "
    "spec.forkFrom, or accept the change there by spec.fingerprintPolicy, where that has a field "
    "for it."
)
_MEND_SESSION = ". Undo the change and run the program again; in another folder it begins anew."
_MANY = 5
"""Files or modules of which a message tells."""


@dataclass(frozen=True)
class Fingerprint:
    """All that a commit was made with."""

    identity: dict[str, Any]
    environment: dict[str, Any]
    """From `rtj_trainer.environment`."""
    cutting: Cutting | None = None
    """The batches; None if the position is no number of a batch."""

    def parts(self) -> dict[str, Any]:
        """Return everything by its name in `_WORDS`."""
        found = {**self.identity, "environment": self.environment}
        if self.cutting:
            found["batchSize"] = self.cutting.batch_size
            found["dropRemainder"] = self.cutting.drop_remainder
        return found


def of_source(paths: dict[str, Path]) -> dict[str, str]:
    """Return the sha256 of each of the builder's files, by module name."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}


def check(
    saved: Fingerprint, current: Fingerprint, policy: FingerprintPolicy, *, in_job: bool = True
) -> str | None:
    """Return if an attempt may go on from a commit.

    Args:
        saved: Of the commit.
        current: Of this attempt.
        policy: Of the job.
        in_job: Whether it is an attempt of a job; else of a program that runs by itself.

    Returns:
        What changed and is to be told as a warning; None if nothing did.

    Raises:
        PermanentError: `FingerprintMismatch`, naming everything that changed and must not.
    """
    current = replace(current, environment=_told(saved, current.environment))
    before, after = saved.parts(), current.parts()
    changed = [
        key
        for key in _WORDS
        if before.get(key) != after.get(key) and (key not in _LATER or key in before)
    ]
    excused = _excused(saved, current, changed)
    changed = [key for key in changed if key not in excused]
    answers = {
        "source": policy.source,
        "files": policy.files,
        "fileTimes": OnChange.IGNORE if policy.files is OnChange.IGNORE else OnChange.WARN,
        "environment": policy.versions,
        "batchSize": policy.batch_size,
    }
    told: dict[OnChange, list[str]] = {answer: [] for answer in OnChange}
    for key in changed:
        difference = f"{_WORDS[key]} ({_difference(before.get(key), after.get(key))})"
        told[answers.get(key, OnChange.REFUSE)].append(difference)
    hint = ""
    if "batchSize" in changed and policy.batch_size is OnChange.REFUSE:
        hint = _TO_REBATCH
    if _unseen(current) and _rewritten(saved, current) & {*changed}:
        hint += _UNSEEN.format(", ".join(_unseen(current)))
    if refused := told[OnChange.REFUSE]:
        raise PermanentError(
            Reason.FINGERPRINT_MISMATCH,
            f"since the last commit these changed: {'; '.join(refused)}. Resuming would not "
            f"continue the same training run{_MEND_JOB if in_job else _MEND_SESSION}{hint}",
        )
    warned = "; ".join(told[OnChange.WARN])
    if not warned:
        return None
    return f"since the last commit these changed: {warned}; the final weights may differ"


def _told(saved: Fingerprint, environment: dict[str, Any]) -> dict[str, Any]:
    """Return what of an environment the commit tells, too; one of an older version tells less."""
    return {key: value for key, value in environment.items() if key in saved.environment}


def _excused(saved: Fingerprint, current: Fingerprint, changed: list[str]) -> set[str]:
    """Return what may differ, since something else that has changed accounts for it.

    Another batch size is written in a parameter.
    """
    excused: set[str] = set()
    if "batchSize" in changed and _is_of_size_only(saved, current):
        excused.add("dataset")
    is_same_program = not _unseen(current) and not any(key in changed for key in _PROGRAM)
    if is_same_program:
        excused |= _rewritten(saved, current)
    return excused


def _rewritten(saved: Fingerprint, current: Fingerprint) -> set[str]:
    """Return which graphs the same program may be written as otherwise than for the commit."""
    before, after = saved.environment, current.environment
    if any(before.get(key) != after.get(key) for key in _LIBRARIES):
        return _PIPELINES | _STEP
    if bool(before.get("accelerators")) != bool(after.get("accelerators")):
        return _STEP  # Keras has other operations for a GPU than for the CPU.
    return set()


def _unseen(current: Fingerprint) -> list[str]:
    """Return what the builder imports of which only the pipeline's graph shows a change."""
    found: list[str] = current.identity.get("imports", [])
    return found


def _is_of_size_only(saved: Fingerprint, current: Fingerprint) -> bool:
    """Return whether the parameters of the dataset differ in one, which is the batch size.

    A pipeline's graph does not show all that a parameter does: the content of a table is not in it.
    """
    if saved.cutting is None or current.cutting is None:
        return False
    sizes = (saved.cutting.batch_size, current.cutting.batch_size)
    before, after = saved.identity.get("dataset"), current.identity.get("dataset")
    different = list(_different(before, after))
    return len(different) <= 1 and all(
        found is None or (type(found) is int and found == wanted)
        for pair in different
        for found, wanted in zip(pair, sizes, strict=True)
    )


def _different(saved: Any, current: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the values that differ, from within dicts; None for one that is not there."""
    if isinstance(saved, dict) and isinstance(current, dict):
        for key in sorted({*saved, *current}):
            yield from _different(saved.get(key), current.get(key))
    elif saved != current:
        yield saved, current


def _difference(saved: Any, current: Any) -> str:
    if isinstance(saved, dict) and isinstance(current, dict):
        keys = sorted(key for key in {*saved, *current} if saved.get(key) != current.get(key))
        words = [f"{key}: {_change(key, saved.get(key), current.get(key))}" for key in keys]
        rest = len(words) - _MANY
        return ", ".join(words[:_MANY]) + (f" and {rest} more" if rest > 0 else "")
    return f"{_short(saved)} -> {_short(current)}"


def _change(key: str, saved: Any, current: Any) -> str:
    if key != "instructions" or saved is None or current is None:
        return f"{_short(saved)} -> {_short(current)}"
    gone, new = (
        " ".join(sorted(found)) for found in ({*saved} - {*current}, {*current} - {*saved})
    )
    return ", ".join(filter(None, [gone and f"no {gone} any more", new and f"now {new}"]))


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
