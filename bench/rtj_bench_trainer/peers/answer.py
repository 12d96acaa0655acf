"""A question on the command line, its answer on the last line of standard output."""

import json
import sys
from collections.abc import Callable
from typing import Any


def answer(act: Callable[..., Any]) -> None:
    """Call this with the fields of the question, and print what it returns."""
    print(json.dumps(act(**json.loads(sys.argv[1]))), flush=True)
