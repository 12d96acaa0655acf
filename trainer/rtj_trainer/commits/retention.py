"""Deletes what nothing can need any more."""

import shutil
from collections.abc import Collection, Iterable

from rtj_trainer import files
from rtj_trainer.commits.attempts import check_fence
from rtj_trainer.commits.layout import TEMPORARY_PREFIX, CommitId, JobDirectory
from rtj_trainer.commits.lineage import own_and_older
from rtj_trainer.commits.manifest import CommitDamagedError, read_manifest, verify_commit


def remove_leftovers(job: JobDirectory, attempt: int) -> None:
    """Remove what killed writers left; call it once the attempt has its fence.

    A stale writer that loses its folder or file this way fails, and would have been stopped by the
    fence anyway. The number of an unfinished record says whose it is: a newer attempt may be about
    to create its fence.

    Raises:
        SupersededError: a newer attempt exists; the folders may be its own.
        OSError: the volume cannot be written.
    """
    for record in job.unfinished_records(before=attempt):
        record.unlink(missing_ok=True)
    for folder in job.temporary_folders():
        check_fence(job, attempt)
        shutil.rmtree(folder, ignore_errors=True)


def delete_old_commits(
    job: JobDirectory,
    attempt: int,
    keep: int,
    every_steps: int | None = None,
    best: Collection[int] = (),
    written: CommitId | None = None,
) -> list[CommitId]:
    """Keep the newest commits of the attempt's lineage, and chosen ones; return the deleted ids.

    Commits outside the lineage that no newer attempt wrote are deleted too: nothing can restore
    them. Nothing is deleted unless the newest commit verifies. One that was written just now is
    trusted without reading it back, if there is another to fall back on.

    Args:
        job: Folder of the job.
        attempt: Number of the running attempt.
        keep: How many of the newest commits to keep.
        every_steps: Keep the first commit at or after each multiple of this, too.
        best: Keep the commits of these steps, too.
        written: The commit that this process has just made durable.

    Raises:
        SupersededError: a newer attempt exists; what to keep is its decision.
    """
    lineage = own_and_older(job, attempt)
    if not lineage:
        return []
    # By their steps: the commit that an attempt began with is there under its number, too.
    steps = sorted({found.step for found in lineage}, reverse=True)
    kept_steps = {*steps[:keep], *milestones(steps, every_steps), *best}
    trusted = lineage[0] == written and any(step in kept_steps for step in steps[1:])
    if not _is_sound(job, lineage[0], trusted):
        return []
    kept = {found for found in lineage if found.step in kept_steps}
    doomed = [found for found in job.commit_ids() if found not in kept and found.attempt <= attempt]
    for commit_id in doomed:
        check_fence(job, attempt)
        grave = job.commits / f"{TEMPORARY_PREFIX}deleted-{commit_id}"
        files.rename_directory(job.commit(commit_id), grave)
        shutil.rmtree(grave, ignore_errors=True)
    return doomed


def _is_sound(job: JobDirectory, newest: CommitId, trusted: bool) -> bool:
    check = read_manifest if trusted else verify_commit
    try:
        check(job.commit(newest))
    except CommitDamagedError:
        return False
    return True


def milestones(steps: Iterable[int], every_steps: int | None) -> list[int]:
    """Return the first of some committed steps at or after each multiple of `every_steps`.

    Commits of a lineage that were deleted were none, so what is one stays one.
    """
    if every_steps is None:
        return []
    found: list[int] = []
    reached = 0
    for step in sorted(steps):
        if step // every_steps > reached:
            reached = step // every_steps
            found.append(step)
    return found
