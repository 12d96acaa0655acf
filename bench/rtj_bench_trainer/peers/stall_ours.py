"""Our commits, in a whole attempt of the trainer: hashed, fsynced, with manifest.

A commit is over when the thread that writes it has also deleted the oldest.
"""

from typing import Any

import keras
from rtj_api.heartbeat import CommitRef
from rtj_trainer.committer import Committer
from rtj_trainer.heartbeat import Heart
from rtj_trainer.joining import Attempt

from rtj_bench_trainer.peers import attempt, cores
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.schedule import Schedule
from rtj_bench_trainer.workload import build_dataset, build_model

__all__ = ["build_callbacks", "build_dataset", "build_model"]

_schedule = Schedule(0)


class _Note(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes the end of each step, and ends the training."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        _schedule.stepped()
        if _schedule.finished:
            self.model.stop_training = True

    def get_state(self) -> None:
        """Keep nothing."""

    def set_state(self, state: None) -> None:
        """Keep nothing."""


def build_callbacks(model: Any) -> list[Any]:
    """Return what a user's builder would."""
    return [_Note()]


class _Heart(Heart):
    def taken(self) -> None:
        super().taken()
        _schedule.begin()

    def committed(self, commit: CommitRef, commits: list[str]) -> None:
        super().committed(commit, commits)
        _schedule.done()


def _due(self: Committer, step: int) -> bool:
    """Say when a commit is due, in the place of the policy."""
    return _schedule.due


def measure(
    folder: str,
    width: int,
    layers: int,
    batch: int,
    commits: int,
    threads: int,
    every_seconds: int | None = None,
) -> list[float]:
    """Return the seconds that each commit cost.

    Args:
        folder: The volume.
        width: Of the model.
        layers: Of the model.
        batch: Examples per step.
        commits: How many to measure.
        threads: Of TensorFlow, and so cores.
        every_seconds: Leave it to the policy when to commit; None for whenever all is quiet, after
            one that warms up.
    """
    global _schedule
    _schedule = Schedule(commits, warm_up=0 if every_seconds else 1)

    def prepare(self: Attempt) -> dict[str, Any]:
        return cores.prepare(threads)

    Attempt.prepare = prepare  # type: ignore[method-assign]
    if every_seconds is None:
        Committer.due = _due  # type: ignore[method-assign]
    attempt.run(
        attempt.make_heart(_Heart),
        folder,
        {"width": width, "batch_size": batch},
        {"width": width, "layers": layers},
        __name__,
        every_seconds=every_seconds,
    )
    return _schedule.stalls()


if __name__ == "__main__":
    answer(measure)
