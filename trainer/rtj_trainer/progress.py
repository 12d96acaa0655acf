"""How far the training is, as plain numbers."""

from dataclasses import dataclass, field

from rtj_api.heartbeat import Position as WirePosition

from rtj_trainer.commits.manifest import EpochSize, Manifest
from rtj_trainer.cutting import EpochLengths


@dataclass
class Progress:
    """Counts of what is in the weights."""

    step: int = 0
    """Optimizer steps taken."""
    epoch: int = -1
    """Index of the epoch that the last step belonged to; -1 before the first step."""
    step_in_epoch: int = 0
    """Steps taken in that epoch."""
    samples: int = 0
    """Examples trained on, over all epochs."""
    lengths: EpochLengths | None = None
    """Of all epochs; None if only the data can tell."""
    steps_per_epoch: int | None = None
    """That an epoch had, where only the data can tell; None while it is not known."""
    total_steps: int | None = None
    """Step at which the job ends; None if its end is that of the data."""
    epochs: int | None = None
    """Epochs of the whole job; None if it counts steps."""
    epoch_size: EpochSize | None = None
    """What the commit that the attempt goes on from knew."""
    epoch_ended: bool = False
    """Whether what belongs to the end of `epoch` is done: validation, and calls of callbacks."""
    results: dict[str, float] = field(default_factory=dict)
    """What was measured at the end of `epoch`; empty before that."""
    stopped_early: bool = False
    """Whether a callback ended the job."""
    altered_at_end: bool = False
    """Whether the end of the job changed anything of the state: no step can follow it."""

    def restore(self, manifest: Manifest) -> None:
        """Go to the position of a commit."""
        self.step = manifest.step
        self.epoch = manifest.epoch
        self.step_in_epoch = manifest.step_in_epoch
        self.samples = manifest.samples
        self.epoch_size = manifest.epoch_size
        self.epoch_ended = manifest.epoch_ended
        self.results = dict(manifest.results)
        if self.epoch > 0 and self.lengths is None and not _was_cut(manifest):
            self.steps_per_epoch = (self.step - self.step_in_epoch) // self.epoch

    def begin_epoch(self) -> None:
        """Count the first batch of an epoch; the length of the one before is known now."""
        if self.epoch >= 0 and self.steps_per_epoch is None:
            self.steps_per_epoch = self.step_in_epoch
        self.epoch += 1
        self.step_in_epoch = 0
        self.epoch_ended = False
        self.results = {}

    def count(self, examples: int) -> None:
        """Count one step."""
        self.step += 1
        self.step_in_epoch += 1
        self.samples += examples

    @property
    def finished_epochs(self) -> int:
        """Epochs that are over, as far as is known before the next batch is asked for."""
        at_end = self.epoch_ended or self.step_in_epoch == self._epoch_length
        return max(self.epoch + (1 if at_end else 0), 0)

    @property
    def _epoch_length(self) -> int | None:
        """Steps of the current epoch, if need be from those before it; None at first."""
        return self.lengths.length(self.epoch) if self.lengths else self.steps_per_epoch

    @property
    def expected_steps(self) -> int | None:
        """Steps of the whole job, from the length of past epochs if need be; None at first."""
        if self.total_steps is None and self.epochs and self.steps_per_epoch:
            return self.epochs * self.steps_per_epoch
        return self.total_steps

    def wire(self) -> WirePosition:
        """Return the position as the heartbeat has it."""
        return WirePosition(
            step=self.step,
            epoch=self.finished_epochs,
            samples=self.samples,
            total_steps=self.expected_steps,
        )


def _was_cut(manifest: Manifest) -> bool:
    """Return whether epochs before a commit may have other lengths than those after it."""
    return manifest.cutting is not None and len(manifest.cutting.cuts) > 1
