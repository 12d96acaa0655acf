"""Where a job ends, whether it is there, and whether a longer one may go on from a commit."""

from rtj_api.launch import TrainerConfig
from rtj_api.names import Reason

from rtj_trainer.commits.lineage import Choice
from rtj_trainer.cutting import EpochLengths
from rtj_trainer.errors import PermanentError
from rtj_trainer.progress import Progress


def target_of(config: TrainerConfig) -> dict[str, int | None]:
    """Return what the job is to reach, as its manifests have it."""
    return {"epochs": config.epochs, "totalSteps": config.total_steps}


def is_complete(config: TrainerConfig, choice: Choice) -> bool:
    """Return whether a commit is the end of the job, also if that was told in other words."""
    manifest = choice.manifest
    if manifest is None or not manifest.complete:
        return False
    if manifest.stopped_early or manifest.target == target_of(config):
        return True
    if config.total_steps is not None:
        return manifest.step == config.total_steps
    return manifest.epoch_ended and manifest.epoch + 1 == config.epochs


def total_steps(config: TrainerConfig, lengths: EpochLengths | None) -> int | None:
    """Return the step at which the job ends; None if only the data can tell."""
    by_epochs = None
    if config.epochs is not None and lengths is not None:
        by_epochs = lengths.end(config.epochs)
    known = [found for found in (config.total_steps, by_epochs) if found is not None]
    return min(known, default=None)


def check_extension(config: TrainerConfig, choice: Choice, progress: Progress) -> None:
    """Return if training on from a commit gets to the job's end exactly.

    Raises:
        PermanentError: `InvalidSpec`.
    """
    manifest, epochs, total = choice.manifest, progress.epochs, progress.total_steps
    if manifest and manifest.complete and total is not None and manifest.step >= total:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"the job was complete at step {manifest.step} with {manifest.target}; "
            f"{target_of(config)} would end it at step {total}. Go back with spec.restore, or fork "
            "an earlier commit with spec.forkFrom; a session needs another folder",
        )
    if manifest and manifest.complete and manifest.altered_at_end:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"the job was complete at step {manifest.step} with {manifest.target}, and its end "
            "changed the weights or what a callback keeps, as an optimizer with use_ema=True or "
            f"on_train_end of a callback does; {target_of(config)} would not go on from what the "
            "last step gave. Fork an earlier commit with spec.forkFrom instead",
        )
    # A saved iterator of a dataset of unknown length has read ahead to its end.
    if manifest and epochs and total is None and manifest.epoch >= epochs:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"spec.epochs is {epochs}, but the commit at step {manifest.step} is in epoch "
            f"{manifest.epoch + 1} already; go back with spec.restore, or create another job",
        )
    if manifest and manifest.complete and total is None:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"the job was complete at step {manifest.step} with {manifest.target}; it cannot be "
            "made longer, since the length of its dataset is unknown; create it under a new name",
        )
