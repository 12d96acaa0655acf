"""`python -m rtj_bench`: run the stages, then print the figures as one JSON object on one line.

A stage that fails leaves null for its figures and a non-zero exit; the others still run. Whatever a
stage started is gone when it is over.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable

from rtj_bench import idle, kwok, nodes, relaunch
from rtj_bench.figures import Figures
from rtj_bench.plane import plane
from rtj_bench.say import say

Stage = Callable[[], Awaitable[None]]


def main() -> None:
    """Run what the command line asks for; exit non-zero if a stage failed."""
    arguments = _arguments()
    # A run that is told to end must clean up as one that is interrupted does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    figures = Figures()
    stages = _stages(arguments, figures)
    failed = [name for name in arguments.only or stages if not _succeeds(name, stages[name])]
    sizes = {"jobs": arguments.jobs, "idle": arguments.idle, "seconds": arguments.seconds}
    print(json.dumps(figures.report(arguments.repeats, sizes)))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="rtj_bench", description=__doc__)
    parser.add_argument(
        "--jobs", type=int, default=1000, help="running jobs of each kind; default: %(default)s"
    )
    parser.add_argument(
        "--rate", type=float, default=20.0, help="preemptions per second; default: %(default)s"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="for how many seconds jobs are preempted; default: %(default)s",
    )
    parser.add_argument("--idle", type=int, default=10_000, help="idle jobs; default: %(default)s")
    parser.add_argument(
        "--repeats", type=int, default=3, help="of every measurement; default: %(default)s"
    )
    parser.add_argument(
        "--client-qps",
        type=int,
        default=1000,
        help="requests per second that scheduler and controller manager may make; "
        "default: %(default)s; upstream: 50, 20",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=("relaunch", "idle", "nodes"),
        help="this stage; all if none is named",
    )
    return parser.parse_args()


def _stages(arguments: argparse.Namespace, figures: Figures) -> dict[str, Stage]:
    sizes = relaunch.Sizes(arguments.jobs, arguments.rate, arguments.seconds)

    async def relaunching() -> None:
        kwok.binary()
        async with plane(f"bench-relaunch-{os.getpid()}", arguments.client_qps) as running:
            await running.start_fake_nodes(arguments.client_qps)
            await relaunch.measure(running, sizes, arguments.repeats, figures)

    async def idling() -> None:
        async with plane(f"bench-idle-{os.getpid()}", arguments.client_qps) as running:
            await idle.measure(running, arguments.idle, arguments.repeats, figures)

    async def losing_nodes() -> None:
        await nodes.measure(arguments.repeats, figures)

    return {"relaunch": relaunching, "idle": idling, "nodes": losing_nodes}


def _succeeds(name: str, stage: Stage) -> bool:
    say(f"stage {name}")
    try:
        asyncio.run(_run(stage))
    except Exception:
        traceback.print_exc()
        say(f"stage {name} FAILED")
        return False
    return True


async def _run(stage: Stage) -> None:
    await stage()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
