"""Names and places of everything that trainers keep on a volume."""

import re
from dataclasses import dataclass
from pathlib import Path

from rtj_trainer import files

MANIFEST = "manifest.json"
TEMPORARY_PREFIX = "tmp-"
INDICES = "indices"
"""Folder beside those of the jobs, in which `rtj_trainer.data.store` keeps what all may use."""
CACHE = "cache"
"""Folder beside those of the jobs, in which `rtj_trainer.cache` keeps what all may use."""
_COMMIT_ID = re.compile(r"^(\d{12})-(\d{6})(-final|-epoch)?$")
_FENCE = re.compile(r"^(\d{6})\.json$")
_START_RECORD = re.compile(r"^(\d{6})\.start\.json$")
_UNFINISHED = re.compile(r"^\.(\d{6})(\.start)?\.json\.")


@dataclass(frozen=True, order=True)
class CommitId:
    """Identifies a commit: the optimizer step that it holds and the attempt that wrote it.

    The commit at the end of a job has a name of its own, and so has one that is made for the
    results of an epoch (`rtj_trainer.commits.best`): the last step may have been committed before
    the end was made.
    """

    step: int
    attempt: int
    final: bool = False
    epoch: bool = False

    def __str__(self) -> str:
        kind = "-final" if self.final else "-epoch" if self.epoch else ""
        return f"{self.step:012d}-{self.attempt:06d}{kind}"

    @classmethod
    def parse(cls, name: str) -> "CommitId | None":
        """Return the id that a directory name spells, or None for any other name."""
        match = _COMMIT_ID.match(name)
        if match is None:
            return None
        return cls(int(match[1]), int(match[2]), match[3] == "-final", match[3] == "-epoch")


@dataclass(frozen=True)
class JobDirectory:
    """The folder of one job on the volume."""

    root: Path

    @property
    def attempts(self) -> Path:
        """Fences and start records."""
        return self.root / "attempts"

    @property
    def commits(self) -> Path:
        """Commits, and temporary folders on their way in or out."""
        return self.root / "commits"

    @property
    def ledger(self) -> Path:
        """One segment per attempt."""
        return self.root / "ledger"

    @property
    def stacks(self) -> Path:
        """Where the threads of trainers that hung stood."""
        return self.root / "stacks"

    def create(self) -> None:
        """Make the folders, durably.

        Some may be there already, by an attempt that was killed before their names were on disk.
        """
        for folder in (self.attempts, self.commits, self.ledger, self.stacks):
            files.make_directory(folder)
        for parent in (self.root, self.root.parent):
            files.fsync_directory(parent)

    def commit(self, commit_id: CommitId) -> Path:
        """Return the folder of a commit, whether it exists or not."""
        return self.commits / str(commit_id)

    def fence(self, attempt: int) -> Path:
        """Return the fence file of an attempt."""
        return self.attempts / f"{attempt:06d}.json"

    def start_record(self, attempt: int) -> Path:
        """Return the start record of an attempt."""
        return self.attempts / f"{attempt:06d}.start.json"

    def ledger_segment(self, attempt: int) -> Path:
        """Return the ledger segment of an attempt."""
        return self.ledger / f"{attempt:06d}.jsonl"

    def from_claim(self, path: Path) -> str:
        """Return a path in this folder as it is seen from the root of the claim."""
        return str(path.relative_to(self.root.parent))

    def fenced_attempts(self) -> list[int]:
        """Return the numbers of all attempts that ever created a fence, ascending."""
        matches = (_FENCE.match(path.name) for path in self.attempts.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def unfinished_records(self, before: int) -> list[Path]:
        """Return what was left of fences and start records by older attempts that were killed."""
        matches = ((path, _UNFINISHED.match(path.name)) for path in self.attempts.iterdir())
        return sorted(path for path, match in matches if match and int(match[1]) < before)

    def commit_ids(self) -> list[CommitId]:
        """Return the ids of all commits with a final name, verified or not, ascending."""
        if not self.commits.is_dir():
            return []
        ids = (CommitId.parse(path.name) for path in self.commits.iterdir())
        return sorted(found for found in ids if found)

    def newest_commits(self, count: int) -> list[str]:
        """Return the names of at most `count` commits, those of the newest attempt first.

        What an attempt took before its start record is left out: it can be neither restored nor
        forked, since nothing says where its history goes on.
        """
        started = self._started_attempts()
        ids = [found for found in self.commit_ids() if found.attempt in started]
        ids.sort(key=lambda found: (found.attempt, found), reverse=True)
        return [str(found) for found in ids[:count]]

    def temporary_folders(self) -> list[Path]:
        """Return what killed writers and killed deletions left behind."""
        return sorted(self.commits.glob(f"{TEMPORARY_PREFIX}*"))

    def _started_attempts(self) -> set[int]:
        """Return the numbers of all attempts that have a start record."""
        matches = (_START_RECORD.match(path.name) for path in self.attempts.iterdir())
        return {int(match[1]) for match in matches if match}
