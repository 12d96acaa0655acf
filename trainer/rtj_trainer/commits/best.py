"""Which commits hold the best epochs, by what was measured at their ends (`checkpoint.keepBest`).

The results of an epoch are in the manifest of the commit that ends it, and nowhere else. So which
ones are the best is found from the commits that are there, by any attempt.
"""

from rtj_api.checkpoint import KeepBest
from rtj_api.heartbeat import BestCommit

from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.lineage import own_and_older
from rtj_trainer.commits.manifest import CommitDamagedError, read_manifest


class BestCommits:
    """Ranks the commits of a running attempt's lineage.

    Args:
        job: Folder of the job.
        attempt: Number of the running attempt, which has its start record.
        rule: What is best; None for a job that keeps none for that.
    """

    def __init__(self, job: JobDirectory, attempt: int, rule: KeepBest | None) -> None:
        self._job = job
        self._attempt = attempt
        self._rule = rule
        self._known: dict[CommitId, float | None] = {}

    def commits(self, spared: int = 0) -> list[BestCommit]:
        """Return the best commits, best first; of two alike the older one is better.

        Args:
            spared: How many more to return than the rule says.
        """
        if self._rule is None:
            return []
        by_step: dict[int, tuple[CommitId, float]] = {}
        for commit_id in own_and_older(self._job, self._attempt):
            value = self._value(commit_id, self._rule.metric)
            if value is not None:
                by_step.setdefault(commit_id.step, (commit_id, value))
        sign = 1 if self._rule.mode == "min" else -1
        ranked = sorted(by_step.values(), key=lambda found: (sign * found[1], found[0].step))
        kept = ranked[: self._rule.count + spared]
        return [BestCommit(id=str(commit_id), value=value) for commit_id, value in kept]

    def improved_by(self, results: dict[str, float]) -> bool:
        """Return whether an epoch with these results is among the best so far."""
        if self._rule is None or self._rule.metric not in results:
            return False
        best = self.commits()
        value = results[self._rule.metric]
        if len(best) < self._rule.count:
            return True
        return value < best[-1].value if self._rule.mode == "min" else value > best[-1].value

    def _value(self, commit_id: CommitId, metric: str) -> float | None:
        if commit_id not in self._known:
            try:
                manifest = read_manifest(self._job.commit(commit_id))
            except CommitDamagedError:
                return None  # Gone, or nothing that can be restored.
            self._known[commit_id] = manifest.results.get(metric)
        return self._known[commit_id]


def steps_of(commits: list[BestCommit]) -> set[int]:
    """Return the steps of some commits."""
    parsed = (CommitId.parse(found.id) for found in commits)
    return {found.step for found in parsed if found}
