"""Grain: a global shuffle of a random-access source, as its own documentation begins."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np

from rtj_bench_trainer.peers import rows
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.places import act_on


class _Rows:
    """The same file that ours reads."""

    def __init__(self, folder: str) -> None:
        self._rows = rows.load(Path(folder))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> np.ndarray:
        return np.asarray(self._rows[place])


class Grain:
    """A pipeline whose position Grain's iterator tells."""

    def __init__(self, folder: str) -> None:
        dataset = grain.MapDataset.source(_Rows(folder)).seed(rows.SEED).shuffle()
        self._iterator = iter(dataset.batch(rows.BATCH).to_iter_dataset())

    def next(self) -> np.ndarray:
        """Return the next batch."""
        return np.asarray(next(self._iterator))

    def advance(self, batches: int) -> None:
        """Go on by so many batches, none of which is read: an epoch would take Grain a minute."""
        state = self._iterator.get_state()
        self._iterator.set_state({**state, "next_index": state["next_index"] + batches})

    def save(self, folder: Path) -> int:
        """Write the iterator's state."""
        state = json.dumps(self._iterator.get_state())
        (folder / "state.json").write_text(state)
        return len(state)

    def restore(self, folder: Path, batches: int) -> None:
        """Set the iterator's state."""
        self._iterator.set_state(json.loads((folder / "state.json").read_text()))


def act(act: str, folder: str, percent: int | Sequence[int]) -> dict[str, Any]:
    """Answer a question of the stage `resume`."""
    return act_on(Grain(folder), act, folder, percent)


if __name__ == "__main__":
    answer(act)
