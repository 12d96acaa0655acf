"""The volume of the job: fences, commits, and what the trainers wrote of going back."""

from dataclasses import dataclass, field

from rtj_api.heartbeat import CommitRef
from rtj_api.names import Reason
from rtj_api.restore import RestoreAnswer, RestoreRequest


@dataclass
class Volume:
    """What outlives every pod."""

    fences: set[int] = field(default_factory=set)
    commits: list[CommitRef] = field(default_factory=list)
    """All that were ever made; none is deleted."""
    parents: dict[str, CommitRef | None] = field(default_factory=dict)
    """By commit, the one before it in its lineage."""
    damaged: set[str] = field(default_factory=set)
    trained: dict[int, float] = field(default_factory=dict)
    """By attempt, the seconds of training that are in its newest commit."""
    newest: CommitRef | None = None
    """Of the lineage: what an attempt goes on from that is not told otherwise."""
    answers: list[RestoreAnswer] = field(default_factory=list)
    """What the start records say, oldest first: to each request to go back one answer."""
    went_back: list[tuple[int, str]] = field(default_factory=list)
    """Request and commit of each attempt that went back."""
    completed: bool = False

    def add(self, commit: CommitRef, parent: CommitRef | None) -> None:
        """Take a commit that was made after another of its lineage."""
        self.commits.append(commit)
        self.parents[commit.id] = parent
        self.newest = commit

    def damage(self) -> None:
        """Damage the commit that the next attempt would go on from, unless none is left then."""
        newest = self.newest
        found = newest and self.parents[newest.id]
        while found and found.id in self.damaged:
            found = self.parents[found.id]
        if newest and found:
            self.damaged.add(newest.id)
            self.newest = found

    def answer(self, request: RestoreRequest) -> RestoreAnswer:
        """Answer as the trainer does: once, whoever asks and however often."""
        if self.answers and self.answers[-1].request >= request.request:
            return self.answers[-1]
        chosen = next((found for found in self.commits if found.id == request.commit), None)
        reason = Reason.RESTORED if chosen else Reason.COMMIT_NOT_FOUND
        if chosen and chosen.id in self.damaged:
            chosen, reason = None, Reason.COMMIT_DAMAGED
        self.answers.append(RestoreAnswer(request=request.request, reason=reason))
        if chosen:
            self.newest = chosen
            self.went_back.append((request.request, request.commit))
        return self.answers[-1]
