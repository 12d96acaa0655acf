"""Says which commits stay after each new one, and has the others deleted.

A trainer may be stopped because a user wants to go back to the oldest commit of which status tells.
So once it is asked to stop, no commit takes the place of another: neither the one that the stop
makes nor the one that was being written then.
"""

import logging
from collections.abc import Callable

from rtj_api.checkpoint import CheckpointPolicy
from rtj_api.heartbeat import BestCommit
from rtj_api.restore import MAX_COMMITS_SHOWN

from rtj_trainer.commits.best import BestCommits, steps_of
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.retention import delete_old_commits
from rtj_trainer.signals import StopRequest

log = logging.getLogger(__name__)


class Keeper:
    """Keeps the commits that the policy of a running attempt wants.

    Args:
        job: Folder of the job.
        attempt: Number of the running attempt, which has its start record.
        policy: How many to keep.
        stop: Once it is made, no commit is deleted that was there before.
        tell: Called with the commits that are kept for their results, best first.
    """

    def __init__(
        self,
        job: JobDirectory,
        attempt: int,
        policy: CheckpointPolicy,
        stop: StopRequest,
        tell: Callable[[list[BestCommit]], None],
    ) -> None:
        self._job = job
        self._attempt = attempt
        self._policy = policy
        self._stop = stop
        self._tell = tell
        self._best = BestCommits(job, attempt, policy.keep_best)
        self._spared = 0
        try:
            tell(self._best.commits())
        except OSError as error:  # Told after the next commit.
            log.warning("the best commits could not be found: %s", error)

    def is_best(self, results: dict[str, float]) -> bool:
        """Return whether an epoch with these results is to be kept for them.

        If that cannot be told, it is: a commit too many costs nothing but time.
        """
        try:
            return self._best.improved_by(results)
        except OSError as error:
            log.warning("the best commits could not be found: %s", error)
            return True

    def prune(self, written: CommitId) -> list[str]:
        """Delete what is too old, after a commit; return the names of the newest that are there."""
        self._spared += self._stop.requested
        try:
            self._delete_others(written)
        except OSError as error:
            log.warning("old commits could not be deleted: %s", error)
        try:
            return self._job.newest_commits(MAX_COMMITS_SHOWN)
        except OSError as error:
            log.warning("the commits could not be listed: %s", error)
            return [str(written)]

    def _delete_others(self, written: CommitId) -> None:
        best = self._best.commits(self._spared)
        if self._policy.keep_best:
            self._tell(best[: self._policy.keep_best.count])
        for commit_id in delete_old_commits(
            self._job,
            self._attempt,
            self._policy.keep + self._spared,
            self._policy.keep_every_steps,
            steps_of(best),
            written,
        ):
            log.debug("deleted commit %s", commit_id)
