"""MosaicML Streaming: shards of MDS, its own shuffle, read by its own loader."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset

from rtj_bench_trainer.peers import rows
from rtj_bench_trainer.peers.answer import answer
from rtj_bench_trainer.peers.places import act_on


def _write(folder: Path) -> None:
    columns = {"row": f"ndarray:float32:{rows.VALUES}"}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for row in rows.load(folder.parent):
            writer.write({"row": row})


class Mosaic:
    """A pipeline whose position its loader tells."""

    def __init__(self, folder: str) -> None:
        shards = Path(folder) / "mds"
        if not (shards / "index.json").exists():
            _write(shards)
        dataset = StreamingDataset(
            local=str(shards), shuffle=True, shuffle_seed=rows.SEED, batch_size=rows.BATCH
        )
        self._loader = StreamingDataLoader(dataset, batch_size=rows.BATCH)
        self._iterator: Iterator[Any] | None = None

    def next(self) -> np.ndarray:
        """Return the next batch."""
        self._iterator = self._iterator or iter(self._loader)
        return np.asarray(next(self._iterator)["row"])

    def advance(self, batches: int) -> None:
        """Take so many more batches."""
        for _ in range(batches):
            self.next()

    def save(self, folder: Path) -> int:
        """Write the loader's state."""
        state = json.dumps(self._loader.state_dict())
        (folder / "state.json").write_text(state)
        return len(state)

    def restore(self, folder: Path, batches: int) -> None:
        """Load the loader's state."""
        self._loader.load_state_dict(json.loads((folder / "state.json").read_text()))


def act(act: str, folder: str, percent: int | Sequence[int]) -> dict[str, Any]:
    """Answer a question of the stage `resume`."""
    return act_on(Mosaic(folder), act, folder, percent)


if __name__ == "__main__":
    answer(act)
