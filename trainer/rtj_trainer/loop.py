"""The training loop: batch, step, ledger, commit; and the orderly stop between two steps."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rtj_api.heartbeat import FinalRecord, TrainerPhase
from rtj_api.names import ExitCode, Reason

from rtj_trainer import batches
from rtj_trainer.committer import Committer, explain
from rtj_trainer.errors import PreemptedError, UserError
from rtj_trainer.heartbeat import Heart
from rtj_trainer.ledger import Entry, LedgerWriter
from rtj_trainer.position import Batch, Position
from rtj_trainer.preflight.strategy import refuse_empty
from rtj_trainer.progress import Progress
from rtj_trainer.signals import StopRequest

log = logging.getLogger(__name__)


@dataclass
class TrainingLoop:
    """Trains from a restored position to the end of the job, or until it is asked to stop."""

    model: Any
    step_function: Callable[[Any], Any]
    position: Position
    progress: Progress
    ledger: LedgerWriter
    committer: Committer
    heart: Heart
    stop: StopRequest

    def run(self) -> None:
        """Train to the end and make the final commit.

        Raises:
            PreemptedError: asked to stop; the last step is committed if that was possible.
            SupersededError: a newer attempt exists.
            UserError: the final commit cannot be written.
        """
        with self.stop.deferred():
            if not self.position.replays:
                self.heart.report(phase=TrainerPhase.TRAINING)
            while not self._at_total():
                self._check_stop()
                batch = self._next_batch()
                if batch is None:
                    break
                self._step(batch.index, batch.element)
                if not self._at_total() and self.committer.due(self.progress.step):
                    self._try_commit()
            self._finish()

    def _at_total(self) -> bool:
        total = self.progress.total_steps
        return total is not None and self.progress.step >= total

    def _next_batch(self) -> Batch | None:
        if not self.position.replays:
            return self.position.next()
        with self.heart.replaying():
            return self.position.next()

    def _step(self, index: int, element: Any) -> None:
        progress = self.progress
        if index == 0:
            if progress.step:
                self._log_epoch()
            progress.begin_epoch()
            for metric in self.model.metrics:
                metric.reset_state()
        self.step_function(batches.training_data(element))
        progress.count(batches.count_examples(element))
        ids = batches.ids_of(element)
        digest = batches.sha256_of(element) if ids is None else None
        self.ledger.append(Entry(progress.step, progress.epoch, ids, digest))

    def _log_epoch(self) -> None:
        results = {name: float(value) for name, value in self.model.get_metrics_result().items()}
        values = ", ".join(f"{name} {value:.4g}" for name, value in results.items())
        log.info("epoch %d ended at step %d: %s", self.progress.epoch, self.progress.step, values)

    def _check_stop(self) -> None:
        self.heart.check_superseded()
        if not self.stop.requested:
            return
        if self.committer.last is None and self.progress.step == 0:
            raise PreemptedError("stopped at step 0; nothing new to commit")
        if not self.committer.covers(self.progress.step):
            self._try_commit()
        raise PreemptedError(
            f"stopped at step {self.progress.step}, committed {self.committer.last}"
        )

    def _try_commit(self) -> None:
        self.heart.report(phase=TrainerPhase.SAVING)
        try:
            commit = self.committer.commit(self.progress)
        except OSError as error:
            message = f"commit at step {self.progress.step} was skipped: {explain(error)}"
            log.warning(message)
            warning = FinalRecord(
                exit_code=ExitCode.COMPLETED, reason=Reason.COMMIT_SKIPPED, message=message[:2048]
            )
            self.heart.report(phase=self._after_commit(), warning=warning)
        else:
            commits = self.committer.prune(stopping=self.stop.requested)
            self.heart.report(
                phase=self._after_commit(), commit=commit, commits=commits, warning=None
            )

    def _after_commit(self) -> TrainerPhase:
        """Return what follows: a trainer that was asked to stop trains no more."""
        return TrainerPhase.SAVING if self.stop.requested else TrainerPhase.TRAINING

    def _check_length(self) -> None:
        step, total = self.progress.step, self.progress.total_steps
        if step == 0:
            refuse_empty()
        if total is not None and step < total:
            raise UserError(
                Reason.TRAINER_FAILED,
                f"the dataset ended at step {step}, although it said that it would have {total}",
            )

    def _finish(self) -> None:
        self.heart.check_superseded()
        self._check_length()
        self._log_epoch()
        self.heart.report(phase=TrainerPhase.SAVING)
        # As fit() does at its end; it matters for optimizers that average weights.
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        self.progress.steps_per_epoch = self.progress.step_in_epoch
        try:
            commit = self.committer.commit(self.progress, complete=True)
        except OSError as error:
            message = f"the final commit at step {self.progress.step} failed: {explain(error)}"
            raise UserError(Reason.VOLUME_UNUSABLE, message) from error
        self.progress.total_steps = self.progress.step
        self.heart.report(commit=commit, commits=self.committer.prune())
