"""What the demo shows while it works: a line per stage with its time, a bar where it is long."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Update = Callable[[float], None]
"""Tells how much of the stage is done, from 0 to 1."""


class Stages:
    """Prints the stages of a run, one below the other."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._start = time.monotonic()

    def say(self, line: str = "") -> None:
        """Print a line between two stages."""
        self.console.print(line)

    @contextmanager
    def stage(self, title: str, bar: bool = False) -> Iterator[Update]:
        """Show that `title` is under way, and how long it took when it is done.

        Args:
            title: What is done, as a person would say it.
            bar: Whether the caller will report how far it is.

        Yields:
            A function to report that, from 0 to 1.
        """
        began = time.monotonic()
        columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
        if bar:
            columns.insert(2, BarColumn(bar_width=30))
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(title, total=1.0 if bar else None)
            try:
                yield lambda share: progress.update(task, completed=min(share, 1.0))
            except BaseException:
                self._line("[red]✗[/red]", title, began)
                raise
        self._line("[green]✓[/green]", title, began)

    def _line(self, mark: str, title: str, began: float) -> None:
        now = time.monotonic()
        self.console.print(
            f"{mark} {title:<66} [dim]{now - began:6.1f} s   at {now - self._start:6.1f} s[/dim]"
        )
