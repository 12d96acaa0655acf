"""A trainer as the operator can see it: where it stands, and whether it moves and speaks."""

from dataclasses import dataclass

from rtj_api.heartbeat import CommitRef, FinalRecord, StackDump
from rtj_api.restore import RestoreAnswer
from rtj_trainer.stopwatch import Stopwatch


@dataclass
class Trainer:
    """One running container."""

    pod: str
    uid: str
    attempt: int
    node: str
    step: int
    started_from: CommitRef | None
    commit: CommitRef | None
    watch: Stopwatch
    started_at: str
    """By the clock of its node."""
    answer: RestoreAnswer | None = None
    hung: bool = False
    stuck: bool = False
    """Hung so badly that no thread of it runs: it neither beats nor answers."""
    stacks: StackDump | None = None
    warning: FinalRecord | None = None
    """What it tells the user while it trains on."""
    restored: bool = True
    """Whether it has read its commit; before that it says nothing of any position."""
    moved_at: float = 0.0
    """When it last took a step, or started."""
