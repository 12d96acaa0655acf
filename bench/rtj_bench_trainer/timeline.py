"""What a commit costs the training thread, from the times at which its steps ended.

Without commits each step takes as long as the next. What the steps around a commit took beyond that
is what the commit cost: the call that begins it, and the slower steps while it is written.
"""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

QUIET = 6
"""Steps before a commit that tell how long one takes."""
TAIL = 2
"""Steps after a commit is durable that count as its own: what it left behind may slow them."""


@dataclass(frozen=True)
class Commit:
    """One commit among the steps."""

    after: int
    """Index of the step that it was begun after."""
    durable: float
    """When it had done all that it does, by the clock of the steps."""


def stall(ends: Sequence[float], commit: Commit) -> float:
    """Return the seconds that the training thread lost to a commit.

    They are counted from the end of the step before it to that of the last of the `TAIL` steps
    after it is durable, less as many times the median of the `QUIET` steps before it.

    Args:
        ends: When each step ended, in seconds, ascending.
        commit: Has `QUIET` steps before it that no other commit touches.

    Raises:
        ValueError: there are too few steps before or after it.
    """
    last = _last_step(ends, commit)
    if last >= len(ends) or commit.after < QUIET:
        raise ValueError(f"{len(ends)} steps are too few to tell what {commit} cost")
    before = ends[commit.after - QUIET : commit.after + 1]
    usual = statistics.median(later - earlier for earlier, later in itertools.pairwise(before))
    return ends[last] - ends[commit.after] - (last - commit.after) * usual


def _last_step(ends: Sequence[float], commit: Commit) -> int:
    during = sum(end < commit.durable for end in ends[commit.after + 1 :])
    return commit.after + during + TAIL
