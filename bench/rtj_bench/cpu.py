"""Where the CPU time goes: what each process of a run has used, which is what the figures run into.

Everything shares the machine's cores, so a figure is not the operator's alone; and on a machine
that others use as well, CPU seconds say more than times.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from rtj_devcluster import processes
from rtj_devcluster.control_plane import ControlPlane

MEASURING = "measuring"
_TICKS = os.sysconf("SC_CLK_TCK")


def of_process(pid: int) -> float:
    """Return the seconds that a process has used, in user and kernel mode."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / _TICKS


def of_all(control_plane: ControlPlane) -> dict[str, float]:
    """Return the seconds that each process of the run has used by now, this one included."""
    used = {MEASURING: time.process_time()}
    for record in (control_plane.folder / "run").glob("*.json"):
        if process := processes.recorded(record):
            used[record.stem] = of_process(process.pid)
    return used


def between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what was used in between, the largest first, by those that were there all along."""
    used = {name: after[name] - before[name] for name in after if name in before}
    return dict(sorted(used.items(), key=lambda item: -item[1]))


def told(used: Mapping[str, float], preemptions: int) -> str:
    """Return it in words: the whole, what a preemption costs, and the parts."""
    whole = sum(used.values())
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items())
    return f"{whole:.1f} s of CPU, {1000 * whole / preemptions:.0f} ms per preemption: {parts}"


def told_of_cores(used: Mapping[str, float], seconds: float) -> str:
    """Return how many cores were busy, in all and for each process."""
    parts = ", ".join(f"{name} {each / seconds:.2f}" for name, each in used.items())
    return f"{sum(used.values()) / seconds:.2f} cores busy: {parts}"
