"""`model.fit` on the same model and the same data."""

from rtj_trainer.environment import prepare_tensorflow

from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.epochs import EpochEnds, seconds_per_step
from rtj_bench_trainer.workload import build_dataset, build_model


def measure(
    folder: str, width: int, layers: int, batch: int, steps: int, epochs: int
) -> list[float]:
    """Return the seconds of a step in each epoch but the first.

    Args:
        folder: Not used.
        width: Of the model.
        layers: Of the model.
        batch: Examples per step.
        steps: Of an epoch.
        epochs: How many, the first included.
    """
    prepare_tensorflow({})
    model = build_model(width, layers)
    ends: list[float] = []
    dataset = build_dataset(width, batch, batch * steps, tagged=False)
    model.fit(dataset, epochs=epochs, verbose=0, callbacks=[EpochEnds(ends)])
    return seconds_per_step(ends, steps)


if __name__ == "__main__":
    answer(measure)
