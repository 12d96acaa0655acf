"""Orbax's asynchronous checkpointer, with the state as a tree of arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from rtj_bench_trainer.peers import cores
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.plain import train
from rtj_bench_trainer.peers.schedule import Schedule
from rtj_bench_trainer.workload import build_dataset, build_model


def measure(
    folder: str, width: int, layers: int, batch: int, commits: int, threads: int
) -> list[float]:
    """Return the seconds that each commit cost.

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
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=True)
    manager = ocp.CheckpointManager(folder, options=options)
    number = 0

    def is_done() -> bool:
        # Orbax gives the folder its name when all is written.
        return Path(f"{folder}/{number}").exists()

    def commit(step: int) -> None:
        nonlocal number
        number = step
        variables = [*model.variables, *model.optimizer.variables]
        # Not copied here: Orbax takes a copy itself before it returns.
        state = {str(place): np.asarray(found.value) for place, found in enumerate(variables)}
        manager.save(step, args=ocp.args.StandardSave(state))

    schedule = Schedule(commits, is_done)
    batches: Any = iter(build_dataset(width, batch, tagged=False))
    train(model, batches, schedule, commit)
    manager.wait_until_finished()
    manager.close()
    return schedule.stalls()


if __name__ == "__main__":
    answer(measure)
