"""`tf.train.CheckpointManager`, sync and async; neither fsyncs.

It is given the variables and not the model: of a Keras 3 model the asynchronous one raises that a
`tf.function` may not create variables.
"""

from pathlib import Path
from typing import Any

import tensorflow as tf

from rtj_bench_trainer.peers import cores
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.plain import train
from rtj_bench_trainer.peers.schedule import Schedule
from rtj_bench_trainer.workload import build_dataset, build_model


def measure(
    folder: str, width: int, layers: int, batch: int, commits: int, threads: int, use: str
) -> list[float]:
    """Return the seconds that each commit cost.

    Args:
        folder: For what is saved.
        width: Of the model.
        layers: Of the model.
        batch: Examples per step.
        commits: How many to measure.
        threads: Of TensorFlow, and so cores.
        use: `sync` or `async`.
    """
    cores.prepare(threads)
    model = build_model(width, layers)
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    checkpoint = tf.train.Checkpoint(variables=[found.value for found in variables])
    manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=2)
    options = tf.train.CheckpointOptions(enable_async=use == "async")
    number = 0

    def is_done() -> bool:
        # Renamed there from a folder of its own, by whoever writes it.
        return Path(f"{folder}/ckpt-{number}.index").exists()

    def commit(step: int) -> None:
        nonlocal number
        number = step
        manager.save(checkpoint_number=step, options=options)

    schedule = Schedule(commits, is_done)
    batches: Any = iter(build_dataset(width, batch, tagged=False))
    train(model, batches, schedule, commit)
    checkpoint.sync()
    return schedule.stalls()


if __name__ == "__main__":
    answer(measure)
