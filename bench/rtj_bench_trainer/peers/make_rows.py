"""Writes the data of the stage `resume`."""

from pathlib import Path

from rtj_bench_trainer.peers import rows
from rtj_bench_trainer.peers.answer import answer


def make(folder: str) -> bool:
    """Write the rows."""
    rows.make(Path(folder))
    return True


if __name__ == "__main__":
    answer(make)
