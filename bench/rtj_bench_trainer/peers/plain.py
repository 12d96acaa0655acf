"""The plain loop that users of TensorFlow write, without anything of ours."""

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from rtj_bench_trainer.peers.schedule import Schedule


def train(
    model: Any, batches: Iterator[Any], schedule: Schedule, commit: Callable[[int], None]
) -> None:
    """Step and commit until the schedule has what it needs.

    Args:
        model: Compiled.
        batches: What to train on, without end.
        schedule: Says when to commit.
        commit: Begins a commit; its argument counts up from 1.
    """
    step = tf.function(model.train_step)
    commits = 0
    while not schedule.finished:
        step(next(batches))
        schedule.stepped()
        if schedule.due:
            commits += 1
            schedule.begin()
            commit(commits)
