"""What belongs to an epoch and not to a step: metrics, validation, and calls of callbacks."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rtj_trainer import batches
from rtj_trainer.callbacks import CallbackRunner
from rtj_trainer.progress import Progress
from rtj_trainer.results import as_text, plain_numbers, results
from rtj_trainer.state import TrainingState
from rtj_trainer.validation import Evaluation

log = logging.getLogger(__name__)


@dataclass
class EpochCount:
    """Begins and ends the epochs of a job whose program does all but count them by itself."""

    progress: Progress

    @property
    def length(self) -> int | None:
        """Batches of the current epoch; None if only the data can tell."""
        lengths = self.progress.lengths
        return lengths.length(self.progress.epoch) if lengths else None

    @property
    def open(self) -> bool:
        """Whether an epoch has begun whose end is still to be made."""
        return self.progress.epoch >= 0 and not self.progress.epoch_ended

    @property
    def stopped(self) -> bool:
        """Whether the training is over before its end."""
        return self.progress.stopped_early

    def begin(self) -> None:
        """Begin the next epoch."""
        self.progress.begin_epoch()

    def end(self, interrupted: Callable[[], bool]) -> bool:
        """End the epoch; return False if that was interrupted, and then nothing has changed."""
        self.progress.epoch_ended = True
        return True

    def finish(self) -> None:
        """End the job."""


@dataclass
class Epochs(EpochCount):
    """Trains a Keras model as `model.fit` does."""

    model: Any
    step_function: Callable[[Any], Any]
    """Compiled, from `rtj_trainer.step.compile_step`."""
    state: TrainingState
    callbacks: CallbackRunner
    evaluation: Evaluation | None

    @property
    def stopped(self) -> bool:
        """Whether a callback has ended the training."""
        return self.callbacks.stopped

    def begin(self) -> None:
        """Begin the next epoch, with metrics that know nothing of the one before."""
        super().begin()
        self.model.reset_metrics()
        self.callbacks.epoch_begin(self.progress.epoch)

    def train(self, element: Any) -> None:
        """Train on one batch, and tell the callbacks."""
        number = self.progress.step_in_epoch
        self.callbacks.batch_begin(number)
        logs = self.step_function(batches.training_data(element))
        self.callbacks.batch_end(number, logs)

    def end(self, interrupted: Callable[[], bool]) -> bool:
        """Evaluate the model and tell the callbacks.

        Args:
            interrupted: Asked between two batches of the validation.

        Returns:
            False if it was interrupted; then nothing has changed.
        """
        values = self._results()
        if self.evaluation:
            found = self.evaluation.run(interrupted)
            if found is None:
                return False
            values |= found
        progress = self.progress
        progress.epoch_ended = True
        progress.results = plain_numbers(values)
        log.info("epoch %d ended at step %d: %s", progress.epoch, progress.step, as_text(values))
        self.callbacks.epoch_end(progress.epoch, values)
        return True

    def finish(self) -> None:
        """End the job, as fit() does: what averages weights puts them into the model."""
        progress, before = self.progress, self.state.capture()
        if self.open:
            values = as_text(self._results())
            log.info("ended in epoch %d at step %d: %s", progress.epoch, progress.step, values)
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        self.callbacks.train_end(self._results())
        after = self.state.capture()
        progress.altered_at_end = not after.equals(before)
        if not after.has_variables_of(before):
            progress.results = {}  # They were measured with other weights.
        progress.stopped_early = self.stopped

    def _results(self) -> dict[str, Any]:
        return results(self.model, self.callbacks.logs)
