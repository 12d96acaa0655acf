"""Python's hash seed: it decides the order of a set, and so what a program makes of one.

By default each process draws another, and layers or a vocabulary that a program makes in the order
of a set would come in another order after a restart. So training begins only with a seed that the
next attempt can be given, too.
"""

import os
import sys
from pathlib import Path
from typing import Any

from rtj_api.names import HASH_SEED_ENV, Reason

from rtj_trainer.errors import PermanentError

_SEED = "0"
_TEXT = "the hash of this text differs with the seed and with Python's way of hashing"


def give() -> None:
    """Start this process anew with a seed, unless it was given one; to be called before imports."""
    if not os.environ.get(HASH_SEED_ENV):
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, HASH_SEED_ENV: _SEED})  # noqa: S606 - itself


def check() -> None:
    """Return if the seed of this process was chosen.

    Raises:
        PermanentError: `InvalidSpec`: Python has drawn it.
    """
    seed = _seed_at_start()
    if seed in ("", "random") or sys.flags.ignore_environment:
        was = f"was {seed!r}" if seed else "was not set"
        ignored = ", or was ignored by an option," if sys.flags.ignore_environment else ""
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"the environment variable {HASH_SEED_ENV} {was}{ignored} when Python was started, so "
            "a set would have another order in each attempt, and with it all that is made from "
            "one: set it to the same number for each attempt, as in "
            f"`{HASH_SEED_ENV}={_SEED} python train.py`; within the program it is too late",
        )


def identity() -> dict[str, Any]:
    """Return what must be the same in the next attempt."""
    return {"seed": _seed_at_start(), "hash": hash(_TEXT)}


def _seed_at_start() -> str:
    """Return the variable as Python saw it; programs often set it, to no effect."""
    for entry in Path("/proc/self/environ").read_bytes().split(b"\0"):
        name, _, value = entry.decode(errors="replace").partition("=")
        if name == HASH_SEED_ENV:
            return value
    return ""
