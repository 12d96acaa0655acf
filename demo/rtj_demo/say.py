"""The demo's own words, between the stages that show how long each thing takes."""

from rich.console import Console

_console = Console(highlight=False)


def say(line: str) -> None:
    """Print a line; rich's markup gives it colour."""
    _console.print(line, soft_wrap=True)
