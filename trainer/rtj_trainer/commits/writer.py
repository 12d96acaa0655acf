"""Writes one commit, in the order that the package docstring explains."""

import shutil
from collections.abc import Callable
from pathlib import Path

from rtj_trainer import files
from rtj_trainer.commits.attempts import check_fence
from rtj_trainer.commits.layout import TEMPORARY_PREFIX, CommitId, JobDirectory
from rtj_trainer.commits.manifest import Manifest, describe_files, write_manifest


def write_commit(
    job: JobDirectory, commit_id: CommitId, write_state: Callable[[Path], Manifest]
) -> Manifest:
    """Make a commit durable under its final name and return its manifest, files included.

    Args:
        job: Folder of the job.
        commit_id: Step and attempt of the commit.
        write_state: Writes the state's files directly into the folder that it is given, and returns
            the manifest. What `files` in it says is taken for true; files that it does not speak
            of are read and hashed.

    Raises:
        SupersededError: a newer attempt exists; nothing was committed.
        OSError: the volume is full or broken; nothing was committed, and the temporary folder is
            gone if it could be removed.
    """
    folder = job.commits / f"{TEMPORARY_PREFIX}{commit_id}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        manifest = write_state(folder)
        for path in folder.iterdir():
            files.fsync_file(path)
        files.fsync_directory(folder)
        described = describe_files(folder, manifest.files)
        manifest = manifest.model_copy(update={"files": described})
        write_manifest(folder, manifest)
        files.fsync_directory(folder)
        check_fence(job, commit_id.attempt)
        files.rename_directory(folder, job.commit(commit_id))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return manifest
