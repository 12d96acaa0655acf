"""The training loop: batch, step, ledger, commit; and the orderly stop between two steps.

It does not take the step itself: it gives out a batch, and what happens until the next one is asked
for is the step. So the same loop serves a Keras model and a user's own code.
"""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rtj_api.heartbeat import TrainerPhase
from rtj_api.names import Reason

from rtj_trainer import batches, startup
from rtj_trainer.committer import CommitFailedError, Committer
from rtj_trainer.draws import repeatable
from rtj_trainer.epochs import EpochCount
from rtj_trainer.errors import PreemptedError, SupersededError, UserError
from rtj_trainer.heartbeat import Heart
from rtj_trainer.ledger import Entry, LedgerWriter
from rtj_trainer.position import Batch, Position
from rtj_trainer.preflight.strategy import refuse_empty
from rtj_trainer.progress import Progress
from rtj_trainer.signals import StopRequest


@dataclass
class TrainingLoop:
    """Goes from a restored position to the end of the job, or until it is asked to stop."""

    position: Position
    progress: Progress
    epochs: EpochCount
    ledger: LedgerWriter
    committer: Committer
    heart: Heart
    stop: StopRequest
    _slow_step: int | None = None
    """Step of the commit that was last said to be slow."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the loop decide when to stop; settle what is being written if training fails.

        Raises:
            PermanentError: see `rtj_trainer.draws.repeatable`.
        """
        startup.TIMES.ended("restore")
        with self.stop.deferred(), repeatable():
            if not self.position.replays:
                self.heart.report(phase=TrainerPhase.TRAINING)
            try:
                yield
            except SupersededError:
                raise
            except Exception:
                # What is being written is not to be lost with the program that failed.
                with contextlib.suppress(Exception):
                    self.committer.settle(wait=True)
                raise

    def steps(self) -> Iterator[Any]:
        """Yield each batch, count it once the next one is asked for, and make the final commit.

        Raises:
            PreemptedError: asked to stop; the last step is committed if that was possible.
            SupersededError: a newer attempt exists.
            UserError: the final commit cannot be written.
        """
        while not self._at_end():
            self._check_stop()
            began = time.monotonic()
            batch = self._next_batch()
            if batch is None:
                break
            self._check_epoch(batch)
            if batch.index == 0 and self.epochs.open:
                # The position must stay before the batch: a commit may follow, and no step.
                ended = self._end_epoch()
                best = ended and self.committer.keeper.is_best(self.progress.results)
                if not ended or self.epochs.stopped or best:
                    self.position.unread(batch)
                    if best:
                        self._begin_commit()
                    continue
            if batch.index == 0:
                self.epochs.begin()
            yield batch.element
            self._count(batch.element)
            if batch.index > 0:  # Else it may be with a validation, or with filling a buffer.
                self.committer.stepped(time.monotonic() - began)
            if not self._at_end() and self.committer.due(self.progress.step):
                if self.committer.puts_off(self.progress.step):
                    self._warn_of_slowness()
                else:
                    self._begin_commit()
        self._end_data()
        self._finish()

    def _at_end(self) -> bool:
        # As in `fit`, one step is taken although the training was stopped before it.
        return self._at_total() or (self.epochs.stopped and self.progress.step > 0)

    def _at_total(self) -> bool:
        total = self.progress.total_steps
        return total is not None and self.progress.step >= total

    def _next_batch(self) -> Batch | None:
        if not self.position.replays:
            return self.position.next()
        with self.heart.replaying():
            return self.position.next()

    def _count(self, element: Any) -> None:
        progress = self.progress
        progress.count(batches.count_examples(element))
        ids = batches.ids_of(element)
        digest = batches.sha256_of(element) if ids is None else None
        self.ledger.append(Entry(progress.step, progress.epoch, ids, digest))
        startup.TIMES.stepped()

    def _end_epoch(self) -> bool:
        """End the epoch; return False if it was interrupted by a request to stop."""
        return self.epochs.end(self._interrupted)

    def _interrupted(self) -> bool:
        self.heart.check_superseded()
        return self.stop.requested

    def _end_data(self) -> None:
        """End the last epoch, if the data or a callback did and not a number of steps."""
        self.heart.check_superseded()
        if not self.epochs.stopped:
            self._check_length()
        if self.epochs.open and self._epoch_is_over():
            if not self._end_epoch():
                self._check_stop()
            elif self.committer.keeper.is_best(self.progress.results):
                self._begin_commit()  # The final one may hold other weights.

    def ends_epoch(self) -> bool:
        """Return whether the batch that was given out last is the last of its epoch."""
        return self._is_length(self.progress.step_in_epoch + 1)

    def _epoch_is_over(self) -> bool:
        return self.epochs.stopped or self._is_length(self.progress.step_in_epoch)

    def _is_length(self, steps: int) -> bool:
        """Return whether an epoch has so many steps; they are taken, but for the last perhaps."""
        length = self.epochs.length
        if length is not None:
            return steps == length
        batch = self._next_batch()
        if batch is None:
            return True
        self.position.unread(batch)
        return batch.index == 0

    def _check_stop(self) -> None:
        self.heart.check_superseded()
        if not self.stop.requested:
            self._settle()
            return
        if self.committer.last is None and self.progress.step == 0:
            raise PreemptedError("stopped at step 0; nothing new to commit")
        self.heart.report(phase=TrainerPhase.SAVING)
        self._settle(wait=True)
        if not self.committer.covers(self.progress.step):
            with self._warned_of_failure():
                self.committer.commit(self.progress)
        raise PreemptedError(f"stopped at step {self.progress.step}, {self._what_is_kept()}")

    def _what_is_kept(self) -> str:
        last = self.committer.last
        if last is None:
            return "without a commit"
        covered = self.committer.covers(self.progress.step)
        return f"committed {last}" if covered else f"the last commit is {last}"

    def _begin_commit(self) -> None:
        began = time.monotonic()
        self.heart.report(phase=TrainerPhase.SAVING)
        self._settle(wait=True)
        with self._warned_of_failure():
            self.committer.begin(self.progress)
        # A trainer that was asked to stop trains no more.
        if not self.stop.requested:
            self.heart.report(phase=TrainerPhase.TRAINING)
        self.committer.pace.paused(time.monotonic() - began)

    def _settle(self, wait: bool = False) -> None:
        with self._warned_of_failure():
            self.committer.settle(wait)

    @contextmanager
    def _warned_of_failure(self) -> Iterator[None]:
        try:
            yield
        except CommitFailedError as error:
            self.heart.warn(
                Reason.COMMIT_SKIPPED, f"commit at step {error.step} was skipped: {error.why}"
            )

    def _warn_of_slowness(self) -> None:
        written = self.committer.pace.tried_step
        if self._slow_step != written:
            self._slow_step = written
            self.heart.warn(
                Reason.COMMIT_SKIPPED,
                f"commit at step {self.progress.step} was put off: that of step {written} is still "
                "being written; the volume is slow",
            )

    def _check_length(self) -> None:
        step, total = self.progress.step, self.progress.total_steps
        if step == 0:
            refuse_empty()
        if total is not None and step < total:
            raise UserError(
                Reason.TRAINER_FAILED,
                f"the dataset ended at step {step}, although it said that it would have {total}",
            )

    def _check_epoch(self, batch: Batch) -> None:
        """Raise if an epoch is not as long as the dataset said: epochs would be counted wrongly."""
        length, ended = self.epochs.length, self.progress.step_in_epoch
        begins = batch.index == 0 and self.epochs.open
        if length is not None and (batch.index >= length or (begins and ended != length)):
            found = f"{ended}" if begins else f"more than {length}"
            raise UserError(
                Reason.TRAINER_FAILED,
                f"epoch {self.progress.epoch} had {found} batches, although the dataset said that "
                f"each has {length}; give it the length that it has, by assert_cardinality(), or "
                "add .filter(lambda *x: True), which makes the length unknown, if it differs from "
                "epoch to epoch",
            )

    def _finish(self) -> None:
        self.heart.check_superseded()
        self.heart.report(phase=TrainerPhase.SAVING)
        self._settle(wait=True)
        self.epochs.finish()
        try:
            self.committer.commit(self.progress, complete=True)
        except CommitFailedError as error:
            message = f"the final commit at step {error.step} failed: {error.why}"
            raise UserError(Reason.VOLUME_UNUSABLE, message) from error
        self.progress.total_steps = self.progress.step
