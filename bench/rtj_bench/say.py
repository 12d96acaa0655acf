"""What a run tells while it goes on, on standard error: standard output is for the figures."""

import sys
import time

_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print a line with the time since the run began."""
    seconds = time.monotonic() - _BEGAN
    print(f"{seconds // 60:3.0f}:{seconds % 60:04.1f}  {text}", file=sys.stderr, flush=True)
