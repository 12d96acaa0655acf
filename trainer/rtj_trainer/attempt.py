"""One attempt, from the fence to the last commit: the order in which everything happens."""

import logging
from pathlib import Path
from typing import Any

from rtj_api.heartbeat import CommitRef, FinalRecord, TrainerPhase
from rtj_api.launch import TrainerConfig
from rtj_api.names import ExitCode, Reason
from rtj_api.restore import MAX_COMMITS_SHOWN

from rtj_trainer import builder, fingerprint
from rtj_trainer.commits import attempts, retention
from rtj_trainer.commits.layout import TEMPORARY_PREFIX, JobDirectory
from rtj_trainer.commits.lineage import Choice
from rtj_trainer.committer import Committer, explain
from rtj_trainer.environment import prepare_tensorflow
from rtj_trainer.errors import PermanentError, UserError
from rtj_trainer.heartbeat import Heart
from rtj_trainer.ledger import EMPTY_HASH, LedgerWriter
from rtj_trainer.origin import Start, find_start
from rtj_trainer.progress import Progress
from rtj_trainer.signals import StopRequest
from rtj_trainer.stacks import StackFolder, Watchdog

log = logging.getLogger(__name__)


def run_attempt(config: TrainerConfig, pod_uid: str, heart: Heart, stop: StopRequest) -> str:
    """Train until the job is complete; return a sentence about how it ended.

    Raises:
        StopError: every other planned end.
    """
    job = JobDirectory(config.volume / config.job_uid)
    try:
        job.create()
        attempts.create_fence(job, config.attempt, pod_uid)
        retention.remove_leftovers(job, config.attempt)
    except OSError as error:
        raise UserError(Reason.VOLUME_UNUSABLE, f"{job.root}: {explain(error)}") from error
    stacks = StackFolder(job, config.attempt)
    stacks.prune()
    heart.dump_with(stacks.dump)
    with Watchdog(stacks.watchdog_file):
        heart.report(watchdog_path=job.from_claim(stacks.watchdog_file))
        return _run_fenced(config, job, heart, stop)


def _run_fenced(config: TrainerConfig, job: JobDirectory, heart: Heart, stop: StopRequest) -> str:
    heart.check_superseded()
    if config.fork_from:
        heart.report(phase=TrainerPhase.RESTORING)
    start = find_start(config, job)
    choice = start.choice
    _report_choice(config, start, heart)
    heart.report(commits=job.newest_commits(MAX_COMMITS_SHOWN))
    if _is_complete(config, choice):
        _record_start(job, start)
        return f"was complete at step {_step(choice)} already"
    return _train(config, job, start, heart, stop)


def _step(choice: Choice) -> int:
    return choice.manifest.step if choice.manifest else 0


def _target(config: TrainerConfig) -> dict[str, int | None]:
    return {"epochs": config.epochs, "totalSteps": config.total_steps}


def _is_complete(config: TrainerConfig, choice: Choice) -> bool:
    manifest = choice.manifest
    return manifest is not None and manifest.complete and manifest.target == _target(config)


def _report_choice(config: TrainerConfig, start: Start, heart: Heart) -> None:
    choice = start.choice
    for rejected in choice.rejected:
        log.warning("commit %s was rejected: %s", rejected.commit_id, rejected.why)
    if choice.commit_id is None or choice.manifest is None:
        log.info("no commit to go on from: training starts at step 0")
        return
    origin = choice.starts_from or choice.commit_id
    log.info("going on from commit %s, step %d", origin, choice.manifest.step)
    commit = CommitRef(
        id=str(choice.commit_id), step=choice.manifest.step, time=choice.manifest.time
    )
    progress = Progress()
    progress.restore(choice.manifest)
    heart.report(
        phase=TrainerPhase.RESTORING,
        position=progress.wire(),
        started_from=commit,
        commit=commit,
    )
    if choice.manifest.step < config.expected_step and not start.went_back:
        message = (
            f"going on from step {choice.manifest.step}, although step {config.expected_step} was "
            "committed: " + "; ".join(f"{item.commit_id}: {item.why}" for item in choice.rejected)
        )
        _warn(heart, Reason.POSITION_REGRESSED, message)


def _warn(heart: Heart, reason: Reason, message: str) -> None:
    log.warning(message)
    warning = FinalRecord(exit_code=ExitCode.COMPLETED, reason=reason, message=message[:2048])
    heart.report(warning=warning)


def _train(
    config: TrainerConfig, job: JobDirectory, start: Start, heart: Heart, stop: StopRequest
) -> str:
    choice = start.choice
    environment = prepare_tensorflow(choice.manifest.environment if choice.manifest else {})
    # These import TensorFlow, so they wait until its threads are set.
    from rtj_trainer.loop import TrainingLoop
    from rtj_trainer.pipeline import Factory
    from rtj_trainer.preflight.doubt import settle
    from rtj_trainer.state import TrainingState
    from rtj_trainer.step import compile_step

    module = builder.load_module(config.builder)
    factory = Factory(config, module)
    scratch = job.commits / f"{TEMPORARY_PREFIX}preflight-{config.attempt:06d}"
    pipeline = factory.pipeline(choice.commit_id is None, scratch)
    log.info("position strategy: %s, because %s", pipeline.strategy.name, pipeline.strategy.why)
    heart.report(strategy=pipeline.strategy.name)
    model = factory.model()
    step_function, traced = compile_step(model, pipeline.element_spec)
    state = TrainingState(model, traced)
    identity = {
        "source": fingerprint.of_source(builder.source_files(config.builder, module)),
        "dataset": {"function": config.builder.dataset_function, **config.builder.dataset_params},
        "model": {"function": config.builder.model_function, **config.builder.model_params},
        "seed": config.seed,
        "variables": state.describe(),
        **pipeline.identity,
    }
    if choice.commit_id is None:
        depends_on = {**identity, "environment": environment}
        settle(config, pipeline.unproven, depends_on, job.root / "preflight")
    progress = Progress(steps_per_epoch=pipeline.strategy.batches_per_epoch, epochs=config.epochs)
    progress.total_steps = _total_steps(config, progress.steps_per_epoch)
    _check_extension(choice, progress)
    pipeline.position.start(_step(choice))
    ledger_hash = _restore(job, choice, state, pipeline.position, progress, identity)
    heart.follow(progress)
    _record_start(job, start)
    if answer := start.record.answer:
        heart.report(restore=answer)
        if start.answers and not start.went_back:
            _warn(heart, answer.reason, answer.message)
    ledger = LedgerWriter(job.ledger_segment(config.attempt), ledger_hash)
    constant = {
        "strategy": pipeline.strategy.name,
        "fingerprint": identity,
        "environment": environment,
        "target": _target(config),
    }
    committer = Committer(
        job,
        config.attempt,
        config.checkpoint,
        state,
        pipeline.position,
        ledger,
        constant,
        choice.commit_id,
        stop,
        heart,
    )
    TrainingLoop(
        model, step_function, pipeline.position, progress, ledger, committer, heart, stop
    ).run()
    return f"complete at step {progress.step} after {progress.samples} examples"


def _record_start(job: JobDirectory, start: Start) -> None:
    try:
        attempts.write_start_record(job, start.record)
    except OSError as error:
        raise UserError(Reason.VOLUME_UNUSABLE, f"{job.root}: {explain(error)}") from error


def _total_steps(config: TrainerConfig, steps_per_epoch: int | None) -> int | None:
    by_epochs = None
    if config.epochs is not None and steps_per_epoch is not None:
        by_epochs = config.epochs * steps_per_epoch
    known = [found for found in (config.total_steps, by_epochs) if found is not None]
    return min(known, default=None)


def _check_extension(choice: Choice, progress: Progress) -> None:
    """Refuse an end that a saved iterator, of a dataset of unknown length, cannot get to."""
    manifest, epochs = choice.manifest, progress.epochs
    if manifest and epochs and progress.total_steps is None and manifest.epoch >= epochs:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"spec.epochs is {epochs}, but the commit at step {manifest.step} is in epoch "
            f"{manifest.epoch + 1} already; go back with spec.restore, or create another job",
        )
    if manifest and manifest.complete and progress.total_steps is None:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"the job was complete at step {manifest.step} with {manifest.target}; it cannot be "
            "made longer, since the length of its dataset is unknown; create it under a new name",
        )


def _restore(
    job: JobDirectory,
    choice: Choice,
    state: Any,
    position: Any,
    progress: Progress,
    identity: dict[str, Any],
) -> str:
    """Restore a commit; return its ledger hash."""
    if choice.commit_id is None or choice.manifest is None:
        return EMPTY_HASH
    fingerprint.check(choice.manifest.fingerprint, identity)
    folder: Path = job.commit(choice.commit_id)
    state.restore(folder)
    position.restore(folder)
    restored = state.capture().sha256()
    if restored != choice.manifest.state_sha256:
        raise PermanentError(
            Reason.POSITION_LOST,
            f"commit {choice.commit_id} holds state {choice.manifest.state_sha256}, "
            f"but restoring it gave {restored}",
        )
    progress.restore(choice.manifest)
    log.info("restored step %d, state sha256 %s", progress.step, restored)
    return choice.manifest.ledger_hash
