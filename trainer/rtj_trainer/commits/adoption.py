"""Makes the commit that an attempt goes on from the attempt's own, under its own number.

The writer of that commit may be alive behind a cut network, blind to the fence for as long as its
file system trusts its cache, and deletes its old commits meanwhile. Links of its files that bear
another attempt's number are nothing that it would touch, and they cost no space.
"""

import os
from dataclasses import replace
from pathlib import Path

from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.manifest import CommitDamagedError, Manifest, read_manifest, verify_files
from rtj_trainer.commits.writer import write_commit


def adopt(job: JobDirectory, commit_id: CommitId, attempt: int) -> Manifest:
    """Link a commit's files under the number of an attempt, and return the manifest of that.

    Raises:
        CommitDamagedError: the commit is damaged, or was deleted meanwhile.
        SupersededError: a newer attempt exists; nothing was written.
        OSError: the volume is full or broken; nothing was written.
    """
    folder = job.commit(commit_id)
    manifest = read_manifest(folder)
    changes = {"attempt": attempt, "parent": str(commit_id), "origin": None}

    def link_files(target: Path) -> Manifest:
        for name in manifest.files:
            try:
                os.link(folder / name, target / name)
            except FileNotFoundError as error:
                raise CommitDamagedError(f"{name} is missing") from error
        verify_files(target, manifest)
        return manifest.model_copy(update=changes)

    return write_commit(job, replace(commit_id, attempt=attempt), link_files)
