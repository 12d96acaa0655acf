"""MosaicML Streaming: shards of MDS, its own shuffle, read by its own loader."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset
from streaming.base.util import clean_stale_shared_memory

from rtj_bench_trainer.peers import rows
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.places import act_on


def _write(folder: Path) -> None:
    columns = {"row": f"ndarray:float32:{rows.VALUES}"}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for row in rows.load(folder.parent):
            writer.write({"row": row})


class Mosaic:
    """A pipeline whose position is a count of samples, with what the order depends on."""

    def __init__(self, folder: str) -> None:
        shards = Path(folder) / "mds"
        if not (shards / "index.json").exists():
            _write(shards)
        clean_stale_shared_memory()  # of a run that was killed
        self._dataset = StreamingDataset(
            local=str(shards), shuffle=True, shuffle_seed=rows.SEED, batch_size=rows.BATCH
        )
        self._loader = StreamingDataLoader(self._dataset, batch_size=rows.BATCH)
        self._iterator: Iterator[Any] | None = None
        self._taken = 0

    def next(self) -> np.ndarray:
        """Return the next batch."""
        self._iterator = self._iterator or iter(self._loader)
        self._taken += 1
        return np.asarray(next(self._iterator)["row"])

    def advance(self, batches: int) -> None:
        """Go on by so many batches, none of which is read: an epoch would take it a minute."""
        self._taken += batches
        self._iterator = None
        self._dataset.next_epoch = 0  # A state of an epoch that has begun is taken for an old one.
        self._loader.load_state_dict(self._state())

    def save(self, folder: Path) -> int:
        """Write what the dataset says of the position."""
        state = json.dumps(self._state())
        (folder / "state.json").write_text(state)
        return len(state)

    def restore(self, folder: Path, batches: int) -> None:
        """Load the loader's state."""
        self._loader.load_state_dict(json.loads((folder / "state.json").read_text()))

    def _state(self) -> dict[str, Any]:
        return {**self._dataset.state_dict(self._taken * rows.BATCH, True), "epoch": 0}


def act(act: str, folder: str, percent: int | Sequence[int]) -> dict[str, Any]:
    """Answer a question of the stage `resume`."""
    return act_on(Mosaic(folder), act, folder, percent)


if __name__ == "__main__":
    answer(act)
