"""How the examples of all epochs are cut into batches, also where the batch size has changed.

Examples come in an order that does not depend on the batch size, so a job may go on from a commit
with another one, at the next example. From there on a step no longer tells by division which epoch
it is in: each change is written down, and every length is found from the last one that counts.
"""

from dataclasses import dataclass
from typing import Protocol

from pydantic import Field
from rtj_api.wire import WireModel


class EpochLengths(Protocol):
    """How many batches epochs have, where that is known before they are read."""

    def length(self, epoch: int) -> int:
        """Return the batches of an epoch, by its index."""

    def end(self, epochs: int) -> int:
        """Return the batches of so many epochs together, at least 1."""


@dataclass(frozen=True)
class SameLength:
    """All epochs have as many batches."""

    batches: int

    def length(self, epoch: int) -> int:
        """Return the batches of an epoch, by its index."""
        return self.batches

    def end(self, epochs: int) -> int:
        """Return the batches of so many epochs together."""
        return epochs * self.batches


class Cut(WireModel):
    """A place from which on batches have another size than before."""

    batch_size: int = Field(ge=1)
    """Examples per batch from there on; the last batch of an epoch may be shorter."""
    step: int = Field(0, ge=0)
    """Batches before it, over all epochs."""
    epoch: int = Field(0, ge=0)
    """Index of the epoch that it is in."""
    step_in_epoch: int = Field(0, ge=0)
    """Batches of that epoch before it."""
    taken: int = Field(0, ge=0)
    """Examples of that epoch before it."""


class Cutting(WireModel):
    """The batches of a whole job whose examples have places, in epochs of the same size.

    An epoch ends when no batch of the size that counts then can be made of what is left of it.
    """

    size: int = Field(ge=1)
    """Examples in one epoch."""
    drop_remainder: bool
    """Whether what does not fill a batch at the end of an epoch is left out."""
    cuts: tuple[Cut, ...] = Field(min_length=1)
    """The beginning, and each change, in their order."""

    @classmethod
    def even(cls, size: int, batch_size: int, drop_remainder: bool) -> "Cutting":
        """Return the cutting of a job whose batch size never changed."""
        return cls(size=size, drop_remainder=drop_remainder, cuts=(Cut(batch_size=batch_size),))

    @property
    def batch_size(self) -> int:
        """Examples per batch since the last change."""
        return self.cuts[-1].batch_size

    @property
    def batches_per_epoch(self) -> int:
        """Batches in each epoch that begins after the last change."""
        return self._batches(self.size, self.batch_size)

    @property
    def dropped_per_epoch(self) -> int:
        """Examples that each epoch leaves out that begins after the last change."""
        return self.size % self.batch_size if self.drop_remainder else 0

    @property
    def left_at_cut(self) -> int:
        """Batches of the epoch of the last change that come after it."""
        return self._left(self.cuts[-1])

    @property
    def is_even(self) -> bool:
        """Whether all batches since the last change have the same size."""
        left = self.size - self.cuts[-1].taken
        return self.drop_remainder or not (self.size % self.batch_size or left % self.batch_size)

    def is_like(self, other: "Cutting") -> bool:
        """Return whether two of them may differ in the batch size only."""
        return (self.size, self.drop_remainder) == (other.size, other.drop_remainder)

    def length(self, epoch: int) -> int:
        """Return the batches of an epoch, by its index."""
        cut = self._last_until(epoch)
        if cut.epoch == epoch:
            return cut.step_in_epoch + self._left(cut)
        return self._batches(self.size, cut.batch_size)

    def end(self, epochs: int) -> int:
        """Return the batches of so many epochs together, at least 1."""
        cut = self._last_until(epochs - 1)
        later = epochs - 1 - cut.epoch
        return cut.step + self._left(cut) + later * self._batches(self.size, cut.batch_size)

    def dropped(self, epoch: int) -> int:
        """Return how many examples an epoch leaves out."""
        cut = self._last_until(epoch)
        left = self.size - (cut.taken if cut.epoch == epoch else 0)
        return left % cut.batch_size if self.drop_remainder else 0

    def index(self, step: int) -> int:
        """Return the place of a batch in its epoch, from 0; `step` is not before the last change.

        Args:
            step: Batches before it, over all epochs.
        """
        return self._place(step)[1]

    def changed(self, step: int, batch_size: int) -> "Cutting":
        """Return what it is if batches have another size from a step on.

        An epoch that was over with the old size stays over.

        Args:
            step: Not before the last change.
            batch_size: Examples per batch from there on.
        """
        epoch, index, taken = self._place(step)
        cut = Cut(batch_size=batch_size, step=step, epoch=epoch, step_in_epoch=index, taken=taken)
        return self.model_copy(update={"cuts": (*self.cuts, cut)})

    def _place(self, step: int) -> tuple[int, int, int]:
        """Return of the batch after `step` of them its epoch, its place, and examples before it."""
        cut = self.cuts[-1]
        beyond = step - cut.step
        if beyond < self.left_at_cut:
            return cut.epoch, cut.step_in_epoch + beyond, cut.taken + beyond * self.batch_size
        later, index = divmod(beyond - self.left_at_cut, self.batches_per_epoch)
        return cut.epoch + 1 + later, index, index * self.batch_size

    def _last_until(self, epoch: int) -> Cut:
        """Return the last change in an epoch or before it."""
        return next((cut for cut in reversed(self.cuts) if cut.epoch <= epoch), self.cuts[0])

    def _left(self, cut: Cut) -> int:
        return self._batches(self.size - cut.taken, cut.batch_size)

    def _batches(self, examples: int, batch_size: int) -> int:
        whole, rest = divmod(examples, batch_size)
        return whole + (1 if rest and not self.drop_remainder else 0)
