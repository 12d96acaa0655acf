"""The manifest: what a commit says about itself, and the check that it is true."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from rtj_api.wire import WireModel

from rtj_trainer import files
from rtj_trainer.commits.layout import MANIFEST, CommitId
from rtj_trainer.commits.sealed import seal, unseal
from rtj_trainer.cutting import Cutting


class CommitDamagedError(Exception):
    """A commit is not what its manifest says."""


class FileRecord(WireModel):
    """One file of a commit."""

    size: int = Field(ge=0)
    sha256: str


@dataclass(frozen=True)
class Written:
    """What is known of a state once it is written."""

    state_sha256: str
    files: dict[str, FileRecord]
    """Those that were hashed while they were written."""


class Origin(WireModel):
    """The commit of another job that a fork began with."""

    job_uid: str
    commit: str


class EpochSize(WireModel):
    """What an epoch holds, of a source whose length is known before it is read."""

    examples: int = Field(ge=1)
    """In the source."""
    dropped: int = Field(ge=0)
    """How many of them each epoch leaves out, by `drop_remainder`; `Manifest.cutting` knows those
    of epochs with another batch size."""
    ids_are_places: bool
    """Whether the ledger names each by its place in the source, from 0."""


class Manifest(WireModel):
    """Everything about a commit that can be known without TensorFlow."""

    step: int = Field(ge=0)
    epoch: int = Field(ge=0)
    """Index of the epoch that the last step belonged to."""
    step_in_epoch: int = Field(ge=0)
    """Steps taken in that epoch."""
    samples: int = Field(ge=0)
    attempt: int = Field(ge=1)
    parent: str | None
    """The commit before this one in the lineage; None for the first of a job."""
    origin: Origin | None = None
    """Where the first commit of a fork was copied from."""
    time: datetime
    strategy: str
    """How the position was kept: index, iterator or replay."""
    strategy_message: str = ""
    """Why so."""
    epoch_size: EpochSize | None = None
    """None if only the data can tell."""
    cutting: Cutting | None = None
    """Which batches the steps were; None if the position is no number of a batch."""
    fingerprint: dict[str, Any]
    ledger_hash: str
    state_sha256: str
    complete: bool = False
    """Whether this is the end of the job."""
    epoch_ended: bool = False
    """Whether the end of the epoch, with validation and callbacks, is in it too."""
    results: dict[str, float] = Field(default_factory=dict)
    """What was measured at the end of the epoch; empty unless the commit is of just then."""
    stopped_early: bool = False
    """Whether a callback ended the job, which no later target changes."""
    altered_at_end: bool = False
    """Whether it holds other values than the last step gave, so that no step can follow it."""
    target: dict[str, int | None]
    """The job's epochs and total steps at that time."""
    environment: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, FileRecord] = Field(default_factory=dict)


def describe_files(folder: Path, known: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
    """Return size and sha256 of each file directly in a folder, the manifest left out.

    Args:
        folder: Of a commit.
        known: What is known already; these files are not read.
    """
    return {
        path.name: known.get(path.name)
        or FileRecord(size=path.stat().st_size, sha256=files.sha256_of_file(path))
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a commit's manifest, and fsync it."""
    files.write_file(folder / MANIFEST, seal(manifest.model_dump(mode="json", by_alias=True)))


def read_manifest(folder: Path) -> Manifest:
    """Return a commit's manifest; the files that it speaks for are not looked at.

    Raises:
        CommitDamagedError: it is missing, unreadable, changed, or of another commit.
    """
    try:
        manifest = Manifest.model_validate(unseal((folder / MANIFEST).read_bytes()))
    except OSError as error:
        raise CommitDamagedError(f"{MANIFEST} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise CommitDamagedError(f"{MANIFEST} is not valid: {error.errors()[0]['msg']}") from error
    except ValueError as error:
        raise CommitDamagedError(f"{MANIFEST} is not valid: {error}") from error
    commit_id = CommitId.parse(folder.name)
    if commit_id and (commit_id.step, commit_id.attempt) != (manifest.step, manifest.attempt):
        raise CommitDamagedError(
            f"{MANIFEST} is of another commit, step {manifest.step} of attempt {manifest.attempt}"
        )
    return manifest


def verify_commit(folder: Path) -> Manifest:
    """Return the manifest of a commit after checking every byte that it speaks for.

    Raises:
        CommitDamagedError: says which file is missing, has another size or another content.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check every byte that a manifest speaks for.

    Raises:
        CommitDamagedError: says which file is missing, has another size or another content.
    """
    for name, record in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != record.size:
                raise CommitDamagedError(f"{name} has {size} bytes instead of {record.size}")
            if files.sha256_of_file(path) != record.sha256:
                raise CommitDamagedError(f"{name} has another content (sha256 differs)")
        except OSError as error:
            raise CommitDamagedError(f"{name} cannot be read: {error.strerror}") from error
