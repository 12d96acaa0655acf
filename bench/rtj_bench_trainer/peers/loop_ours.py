"""Our loop, in a whole attempt of the trainer, with ledger and heartbeat."""

from typing import Any

from rtj_bench_trainer.peers import attempt
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.epochs import EpochEnds, seconds_per_step
from rtj_bench_trainer.workload import build_dataset, build_model

__all__ = ["build_callbacks", "build_dataset", "build_model"]

_ends: list[float] = []


def build_callbacks(model: Any) -> list[Any]:
    """Return what a user's builder would."""
    return [EpochEnds(_ends)]


def measure(
    folder: str, width: int, layers: int, batch: int, steps: int, epochs: int
) -> list[float]:
    """Return the seconds of a step in each epoch but the first.

    Args:
        folder: The volume.
        width: Of the model.
        layers: Of the model.
        batch: Examples per step.
        steps: Of an epoch.
        epochs: How many, the first included.
    """
    attempt.run(
        attempt.make_heart(),
        folder,
        {"width": width, "batch_size": batch, "examples": batch * steps},
        {"width": width, "layers": layers},
        __name__,
        epochs,
    )
    return seconds_per_step(_ends, steps)


if __name__ == "__main__":
    answer(measure)
