"""Stage `loop`: what our loop costs beside `model.fit`, and what commits every 30 seconds cost."""

import statistics
import tempfile
from dataclasses import asdict
from typing import Any

from rtj_bench.say import say

from rtj_bench_trainer.figures import summary
from rtj_bench_trainer.process import ask
from rtj_bench_trainer.stall import CORES, SIZES

KEYS = (
    "loop_ratio_small",
    "loop_ratio_large",
    "commit_overhead_pct",
    "commit_overhead_spare_core_pct",
    "loop_step_ms",
)

SIZE = {
    "small": {"width": 32, "layers": 1, "batch": 32, "steps": 3000, "epochs": 4},
    "large": {"width": 1024, "layers": 4, "batch": 256, "steps": 30, "epochs": 4},
}
"""The first epoch is not measured: it has what is done once."""

EVERY_SECONDS = 30


def measure(repeats: int) -> dict[str, Any]:
    """Return our step time over that of `fit`, and what share of time commits take."""
    return summary([_repeat(number, repeats) for number in range(repeats)])


def _repeat(number: int, repeats: int) -> dict[str, Any]:
    say(f"loop: repeat {number + 1} of {repeats}")
    times = {
        name: {
            "ours": _step(f"{name} ours", "loop_ours", size),
            "fit": _step(f"{name} fit", "loop_fit", size),
        }
        for name, size in SIZE.items()
    }
    ratios = {f"loop_ratio_{name}": _ratio(**found) for name, found in times.items()}
    milliseconds = {
        name: {who: value and value * 1000 for who, value in found.items()}
        for name, found in times.items()
    }
    return {
        **ratios,
        "loop_step_ms": milliseconds,
        "commit_overhead_pct": _commits(CORES),
        # No core of a machine that has but one can be left idle.
        "commit_overhead_spare_core_pct": _commits(CORES - 1) if CORES > 1 else None,
    }


def _step(name: str, peer: str, size: dict[str, int]) -> float | None:
    with tempfile.TemporaryDirectory(prefix="rtj-bench-") as folder:
        seconds = ask(peer, {"folder": folder, **size})
    if not seconds:
        return None
    median = float(statistics.median(seconds))
    say(f"loop: {name} {median * 1000:.3f} ms per step")
    return median


def _ratio(ours: float | None, fit: float | None) -> float | None:
    return ours / fit if ours and fit else None


def _commits(threads: int) -> float | None:
    size = {**asdict(SIZES["stall_100mb_s"]), "commits": 1, "threads": threads}
    with tempfile.TemporaryDirectory(prefix="rtj-bench-") as folder:
        stalls = ask("stall_ours", {"folder": folder, **size, "every_seconds": EVERY_SECONDS})
    return 100 * stalls[0] / EVERY_SECONDS if stalls else None
