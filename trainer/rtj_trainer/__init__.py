"""The trainer: owns the position, the commits and the end of one attempt, and mostly its loop."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtj_trainer.own_loop.session import Session

__all__ = ["session"]


@contextmanager
def session(
    folder: str | PathLike[str] | None = None,
    *,
    epochs: int | None = None,
    total_steps: int | None = None,
    seed: int = 0,
    every_steps: int | None = None,
    every_seconds: int | None = None,
    keep: int = 3,
) -> Iterator["Session"]:
    """Train with a loop of your own, and go on exactly where a killed process was.

    Open it before anything else uses TensorFlow: it sets the seed and makes TensorFlow
    deterministic. In a job, all arguments are the job's, and those given here are not used.

    Args:
        folder: For the commits; the same one finds them again.
        epochs: Passes over the dataset; exactly one of this and `total_steps`.
        total_steps: Steps of the whole training.
        seed: Of every random generator.
        every_steps: Commit after this many steps.
        every_seconds: Commit when this many seconds have passed; 60 if neither is given.
        keep: How many of the newest commits to keep, at least 2.

    Raises:
        SystemExit: with the code of `rtj_api.names.ExitCode` that tells how the attempt ended,
            unless the training is complete.
    """
    from rtj_trainer.own_loop.local import LocalRun, opened_session

    run = LocalRun(folder, epochs, total_steps, seed, every_steps, every_seconds, keep)
    with opened_session(run) as opened:
        yield opened
