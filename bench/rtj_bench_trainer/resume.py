"""Stage `resume`: what a position costs to keep and to go back to, by strategy and peer.

Each peer first goes through an epoch once, keeps its position at each place, and notes the batch
that follows. Then, for each place and repeat, a fresh process builds the pipeline, and the clock
runs from there to the first batch, which must be the noted one.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rtj_bench.say import say

from rtj_bench_trainer.figures import summary
from rtj_bench_trainer.process import ask

PERCENT = (1, 50, 99)
PEERS = ("index", "iterator", "skip", "grain", "mosaic")
KEYS = (
    *(f"resume_{peer}_s" for peer in PEERS),
    *(f"{peer}_state_bytes" for peer in PEERS if peer != "skip"),
)


def measure(repeats: int, streaming: str = sys.executable) -> dict[str, Any]:
    """Return seconds and bytes of each peer, a list for 1, 50 and 99 % of the epoch.

    Args:
        repeats: How often each place is gone back to.
        streaming: Python of the environment that mosaicml-streaming is in.
    """
    python = {"mosaic": streaming}
    with tempfile.TemporaryDirectory(prefix="rtj-bench-") as folder:
        ask("make_rows", {"folder": folder})
        prepared = {
            peer: _prepare(peer, folder, python.get(peer, sys.executable)) for peer in PEERS
        }
        samples = []
        for number in range(repeats):
            say(f"resume: repeat {number + 1} of {repeats}")
            samples.append(
                {
                    f"resume_{peer}_s": _resume(
                        peer, folder, known, python.get(peer, sys.executable)
                    )
                    for peer, known in prepared.items()
                }
            )
    part = summary(samples)
    for peer, known in prepared.items():
        if peer != "skip":
            part[f"{peer}_state_bytes"] = known and known["bytes"]
    return part


def _prepare(peer: str, folder: str, python: str) -> Mapping[str, Any] | None:
    say(f"resume: {peer} goes through the epoch")
    question = {"act": "prepare", "folder": folder, "percent": PERCENT}
    known: Mapping[str, Any] | None = ask(f"resume_{peer}", question, python)
    return known


def _resume(
    peer: str, folder: str, known: Mapping[str, Any] | None, python: str
) -> list[float] | None:
    if known is None:
        return None
    seconds: list[float] = []
    for place, percent in enumerate(PERCENT):
        _warm_cache(Path(folder))
        found = ask(
            f"resume_{peer}", {"act": "resume", "folder": folder, "percent": percent}, python
        )
        if found is None:
            return None
        if found["digest"] != known["digests"][place]:
            say(f"ERROR {peer} does not resume at {percent} % of the epoch, but elsewhere")
            return None
        seconds.append(found["seconds"])
    say(f"resume: {peer} {', '.join(f'{value:.3f} s' for value in seconds)}")
    return seconds


def _warm_cache(folder: Path) -> None:
    """Have the kernel hold every file, so that no peer waits for the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                for _ in iter(partial(file.read, 1 << 22), b""):
                    pass
    os.sync()
