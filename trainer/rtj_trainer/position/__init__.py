"""How the position in the data is kept, so that the next batch is the right one.

`iterator`  saves the tf.data iterator itself: works for any deterministic pipeline that tf.data can
            save; costs as much as the pipeline's buffers hold.
`index`     the position is a number: the builder starts from a source of `rtj_trainer.data`, and a
            restart begins at that batch. Nothing to save, constant time.
`replay`    counts, and skips what was seen: for deterministic sources that tf.data restores
            wrongly. A restart reads the data again up to the position.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rtj_trainer.commits.manifest import EpochSize


@dataclass(frozen=True)
class Batch:
    """One element of the dataset, and its place in its epoch."""

    index: int
    """0 for the first batch of an epoch."""
    element: Any


class Position(Protocol):
    """A place in the stream of batches over all epochs."""

    strategy: str
    replays: bool
    """Whether `next` first reads again all that came before the position: it takes long, once."""

    epoch_size: EpochSize | None
    """None if only the data can tell, or before the first batch."""

    def start(self, step: int) -> None:
        """Go to where `step` batches have been taken; `restore` follows if there is a commit."""

    def save(self, folder: Path) -> None:
        """Write what `start` cannot find again into a folder. Raises OSError."""

    def restore(self, folder: Path) -> None:
        """Read back what `save` wrote."""

    def next(self) -> Batch | None:
        """Return the next batch, or None at the end of the last epoch."""

    def unread(self, batch: Batch) -> None:
        """Make the batch that `next` gave last the next one again."""
