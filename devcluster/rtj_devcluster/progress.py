"""A line per stage with its elapsed time, and a bar for a stage whose length is known.

Goes to standard error, so that standard output stays for what a command answers.
Without a terminal (a log file, CI) a stage prints one line when it begins, if it
may be long, and one when it ends.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console = Console(stderr=True, highlight=False)

_QUIET_SECONDS = 3.0

Advance = Callable[[float], None]
"""Tells a stage's bar how much of the total is done in all."""


@contextmanager
def stage(title: str, total: float | None = None) -> Iterator[Advance]:
    """Show one stage of work while the block runs; yields what moves its bar."""
    began = time.monotonic()
    if console.is_terminal:
        with _live(total) as progress:
            task = progress.add_task(title, total=total)
            yield lambda done: progress.update(task, completed=done)
    else:
        console.print(f"… {title}")
        yield _milestones(title, total, began)
    console.print(f"✓ {title} [dim]{time.monotonic() - began:.1f} s[/dim]")


def _live(total: float | None) -> Progress:
    bar = [BarColumn(bar_width=30)] if total else []
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *bar,
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _milestones(title: str, total: float | None, began: float) -> Advance:
    """Print every further tenth: a log has no bar that could move; but not what is soon over."""
    shown, told = 0, began

    def advance(done: float) -> None:
        nonlocal shown, told
        tenth = int(10 * done / total) if total else 0
        now = time.monotonic()
        if shown < tenth < 10 and now - told >= _QUIET_SECONDS:
            shown, told = tenth, now
            console.print(f"  {title}: {tenth}0 % after {now - began:.0f} s")

    return advance
