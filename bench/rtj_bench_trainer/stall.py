"""Stage `stall`: what a commit costs the training thread, beside other ways to save a state."""

import os
import statistics
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

from rtj_bench.say import say

from rtj_bench_trainer.figures import summary
from rtj_bench_trainer.process import ask


@dataclass(frozen=True)
class Size:
    """A model, and how often it is committed."""

    width: int
    layers: int
    batch: int
    commits: int


SIZES = {
    "stall_100mb_s": Size(width=1024, layers=8, batch=32, commits=7),
    "stall_1gb_s": Size(width=2048, layers=20, batch=8, commits=3),
}
"""12 bytes for each weight: 100.8 and 1,007 MB."""

SPARE_CORE = {f"{key.removesuffix('_s')}_spare_core_s": size for key, size in SIZES.items()}
"""The same, while training leaves one core idle, as a node does whose GPU trains."""

KEYS = (*SIZES, *SPARE_CORE)

CORES = len(os.sched_getaffinity(0))

PEERS: dict[str, tuple[str, dict[str, str]]] = {
    "ours": ("stall_ours", {}),
    "cm_sync": ("stall_checkpoint_manager", {"use": "sync"}),
    "cm_async": ("stall_checkpoint_manager", {"use": "async"}),
    "backup_and_restore": ("stall_backup_and_restore", {}),
    "orbax": ("stall_orbax", {}),
}


def measure(repeats: int) -> dict[str, Any]:
    """Return the seconds that a commit costs, by size and peer."""
    return summary([_repeat(number, repeats) for number in range(repeats)])


def _repeat(number: int, repeats: int) -> dict[str, Any]:
    sample: dict[str, Any] = {}
    for sizes, threads in ((SIZES, CORES), (SPARE_CORE, CORES - 1)):
        for key, size in sizes.items():
            say(f"{key}: repeat {number + 1} of {repeats}")
            # No core of a machine that has but one can be left idle.
            sample[key] = {name: _peer(name, size, threads) if threads else None for name in PEERS}
    return sample


def _peer(name: str, size: Size, threads: int) -> float | None:
    module, more = PEERS[name]
    with tempfile.TemporaryDirectory(prefix="rtj-bench-") as folder:
        stalls = ask(module, {"folder": folder, "threads": threads, **asdict(size), **more})
    if not stalls:
        return None
    say(f"{name}: {', '.join(f'{value:.3f} s' for value in stalls)}")
    return float(statistics.median(stalls))
