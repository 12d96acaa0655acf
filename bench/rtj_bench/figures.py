"""From samples to the figures of the last line: percentiles, medians over repeats, their spread."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

KEYS = (
    "relaunch_p50_s",
    "relaunch_p99_s",
    "job_relaunch_p50_s",
    "job_relaunch_p99_s",
    "zone_relaunch_s",
    "job_zone_relaunch_s",
    "idle10k_rss_mb",
    "idle10k_cpu_pct",
    "idle10k_ready_s",
    "writes_per_preemption",
    "drained_created_s",
    "drained_running_s",
    "drained_after_commit_s",
    "job_drained_running_s",
    "deletednode_created_s",
    "deletednode_running_s",
    "job_deletednode_running_s",
    "deadnode_created_s",
    "deadnode_running_s",
    "job_deadnode_running_s",
)


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that this share of all is not above (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(math.ceil(percent / 100 * len(ordered)) - 1, 0)]


class Figures:
    """Collects a value of each key per repeat."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Take the values of one repeat."""
        for key, value in values.items():
            self._values.setdefault(key, []).append(value)

    def report(self, repeats: int, sizes: Mapping[str, object]) -> dict[str, Any]:
        """Return the object of the last line.

        Each of `KEYS` is the median over the repeats, null if its stage failed; `spread` has the
        smallest and the largest value of each.
        """
        medians = {
            key: round(statistics.median(values), 3) if (values := self._values.get(key)) else None
            for key in KEYS
        }
        spread = {key: [round(min(v), 3), round(max(v), 3)] for key, v in self._values.items()}
        return {**medians, "repeats": repeats, "spread": spread, "sizes": dict(sizes)}
