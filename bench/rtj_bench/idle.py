"""Many jobs that want nothing: what it costs to know them.

Idle means suspended, after having trained: each has its status and its Lease. A job that trains is
never idle, since its trainer beats.
"""

import asyncio

from rtj_bench.api import until
from rtj_bench.audit import lists_without_limit
from rtj_bench.figures import Figures
from rtj_bench.plane import Operator, Plane
from rtj_bench.population import keys, make_idle_jobs, make_namespaces
from rtj_bench.say import say

WINDOW_SECONDS = 60.0
SETTLE_SECONDS = 300.0
RESTING_SHARE = 0.15
"""Of a core: a process that takes in its first lists wants all of one."""


async def measure(plane: Plane, count: int, repeats: int, figures: Figures) -> None:
    """Fill in all figures about idle jobs."""
    jobs = keys(count, ours=True)
    async with plane.api() as api:
        await make_namespaces(api, {key.namespace for key in jobs})
        await make_idle_jobs(api, jobs)
    say(f"{count} idle jobs are there")
    for _ in range(repeats):
        # One resync falls into each window, five times as many as by default.
        with plane.operator(RTJ_RESYNC_SECONDS=str(WINDOW_SECONDS)) as operator:
            await _repeat(operator, count, figures)
    if whole := lists_without_limit(plane.control_plane.folder / "log"):
        raise RuntimeError(f"lists in one piece, not in pages: {sorted(whole)}")


async def _repeat(operator: Operator, count: int, figures: Figures) -> None:
    ready = operator.wait_until_ready()
    await _settled(operator, count)
    settled, before = operator.cpu_seconds(), operator.rss_mb()
    await asyncio.sleep(WINDOW_SECONDS)
    cpu = 100 * (operator.cpu_seconds() - settled) / WINDOW_SECONDS
    rss = operator.rss_mb()
    figures.add({"idle10k_ready_s": ready, "idle10k_cpu_pct": cpu, "idle10k_rss_mb": rss})
    say(
        f"{count} idle jobs: ready after {ready:.1f} s, {settled:.1f} s of CPU until it had seen "
        f"them all, then {cpu:.1f} % of a core; {before:.0f} MB then, {rss:.0f} MB at the end"
    )


async def _settled(operator: Operator, count: int) -> None:
    """Wait until every job was seen, and the process has come to rest."""

    async def settled() -> bool:
        before = operator.wanted_seconds()
        await asyncio.sleep(3)
        rests = operator.wanted_seconds() - before < 3 * RESTING_SHARE
        return rests and operator.metric("rtj_jobs{") >= count

    await until(settled, f"the operator has seen {count} jobs and rests", SETTLE_SECONDS)
