"""Keras' `BackupAndRestore` in `model.fit`; it writes an HDF5 file and does not fsync."""

from typing import Any

import keras

from rtj_bench_trainer.peers import cores
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.schedule import Schedule
from rtj_bench_trainer.timeline import QUIET, TAIL
from rtj_bench_trainer.workload import build_dataset, build_model

_EVERY_STEPS = QUIET + TAIL + 2


class _Before(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes the end of each step, before the backup."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule
        self._steps = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._schedule.stepped()
        self._steps += 1
        if self._steps % _EVERY_STEPS == 0:
            self._schedule.begin()


class _After(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes that the backup is over."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._schedule.done()


def measure(
    folder: str, width: int, layers: int, batch: int, commits: int, threads: int
) -> list[float]:
    """Return the seconds that each backup cost.

    Args:
        folder: For what is saved.
        width: Of the model.
        layers: Of the model.
        batch: Examples per step.
        commits: How many to measure.
        threads: Of TensorFlow, and so cores.
    """
    cores.prepare(threads)
    model = build_model(width, layers)
    schedule = Schedule(commits)
    backup = keras.callbacks.BackupAndRestore(folder, save_freq=_EVERY_STEPS)
    steps = _EVERY_STEPS * (commits + 1) + TAIL + 1
    model.fit(
        build_dataset(width, batch, tagged=False),
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[_Before(schedule), backup, _After(schedule)],
    )
    return schedule.stalls()


if __name__ == "__main__":
    answer(measure)
