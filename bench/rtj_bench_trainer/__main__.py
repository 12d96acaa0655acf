"""`python -m rtj_bench_trainer`: run the stages, then print the figures as one JSON object.

A stage or a peer that fails leaves null for its figures and a non-zero exit; the others still run.
"""

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rtj_bench.say import say

from rtj_bench_trainer import goodput, loop, resume, stall, startup
from rtj_bench_trainer.figures import has_null

Stage = Callable[[int], dict[str, Any]]
"""(repeats) -> keys with their medians, and `spread`."""

STAGES: Mapping[str, tuple[str, ...]] = {
    "resume": resume.KEYS,
    "stall": stall.KEYS,
    "loop": loop.KEYS,
    "startup": startup.KEYS,
    "goodput": goodput.KEYS,
}
"""The stages with their keys, which are null if one fails."""


def main() -> None:
    """Run what the command line asks for; exit non-zero if anything could not be measured."""
    arguments = _arguments()
    # A run that is told to end must clean up as one that is interrupted does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    stages: dict[str, Stage] = {
        "resume": partial(resume.measure, streaming=arguments.streaming),
        "stall": stall.measure,
        "loop": loop.measure,
        "startup": partial(startup.measure, trainer=arguments.trainer),
        "goodput": goodput.measure,
    }
    wanted = arguments.only or list(stages)
    parts = {name: _part(name, stages[name], arguments.repeats) for name in wanted}
    line: dict[str, Any] = {key: None for keys in STAGES.values() for key in keys}
    spread: dict[str, Any] = {}
    for part in parts.values():
        spread |= part.pop("spread", {})
        line |= part
    print(json.dumps({**line, "repeats": arguments.repeats, "spread": spread}))
    if failed := [name for name, part in parts.items() if has_null(part)]:
        sys.exit(f"failed, or a peer of it: {', '.join(failed)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="rtj_bench_trainer", description=__doc__)
    parser.add_argument(
        "--repeats", type=int, default=3, help="of every measurement; default: %(default)s"
    )
    parser.add_argument(
        "--streaming",
        default=sys.executable,
        help="Python of the environment that mosaicml-streaming is in; default: %(default)s",
    )
    parser.add_argument(
        "--trainer",
        type=os.path.abspath,  # It is started in another folder, and may be a link.
        default=sys.executable,
        help="Python of the environment that has what the image has; default: %(default)s",
    )
    parser.add_argument(
        "--only", action="append", choices=tuple(STAGES), help="this stage; all if none is named"
    )
    return parser.parse_args()


def _part(name: str, stage: Stage, repeats: int) -> dict[str, Any]:
    say(f"stage {name}")
    try:
        return stage(repeats)
    except Exception:
        traceback.print_exc()
        say(f"stage {name} FAILED")
        return dict.fromkeys(STAGES[name])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
