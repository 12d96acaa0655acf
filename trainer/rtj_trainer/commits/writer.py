"""Writes one commit, in the order that the package docstring explains."""

import shutil
from collections.abc import Callable
from pathlib import Path

from rtj_trainer import files
from rtj_trainer.commits.attempts import check_fence
from rtj_trainer.commits.layout import TEMPORARY_PREFIX, CommitId, JobDirectory
from rtj_trainer.commits.manifest import Manifest, describe_files, write_manifest


def write_commit(
    job: JobDirectory,
    commit_id: CommitId,
    manifest: Manifest,
    write_state: Callable[[Path], None],
) -> Manifest:
    """Make a commit durable under its final name and return its manifest, files included.

    Args:
        job: Folder of the job.
        commit_id: Step and attempt of the commit.
        manifest: Its manifest; without `files` unless `write_state` makes sure that these are what
            it writes.
        write_state: Writes the state's files directly into the folder that it is given.

    Raises:
        SupersededError: a newer attempt exists; nothing was committed.
        OSError: the volume is full or broken; nothing was committed, and the temporary folder is
            gone if it could be removed.
    """
    folder = job.commits / f"{TEMPORARY_PREFIX}{commit_id}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        write_state(folder)
        for path in folder.iterdir():
            files.fsync_file(path)
        files.fsync_directory(folder)
        if not manifest.files:
            manifest = manifest.model_copy(update={"files": describe_files(folder)})
        write_manifest(folder, manifest)
        files.fsync_directory(folder)
        check_fence(job, commit_id.attempt)
        files.rename_directory(folder, job.commit(commit_id))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return manifest
