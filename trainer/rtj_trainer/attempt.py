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
from rtj_trainer.data_files import look_at
from rtj_trainer.environment import prepare_tensorflow
from rtj_trainer.errors import PermanentError, UserError
from rtj_trainer.fingerprint import Fingerprint
from rtj_trainer.heartbeat import Heart
from rtj_trainer.ledger import EMPTY_HASH, LedgerWriter
from rtj_trainer.origin import Start, find_start
from rtj_trainer.progress import Progress
from rtj_trainer.signals import StopRequest
from rtj_trainer.stacks import StackFolder, Watchdog
from rtj_trainer.target import check_extension, is_complete, target_of, total_steps

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
    if is_complete(config, choice):
        _record_start(job, start)
        return f"was complete at step {_step(choice)} already"
    return _train(config, job, start, heart, stop)


def _step(choice: Choice) -> int:
    return choice.manifest.step if choice.manifest else 0


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
    from rtj_trainer import seeding
    from rtj_trainer.cache.materialise import materialise
    from rtj_trainer.loop import TrainingLoop
    from rtj_trainer.pipeline import Factory
    from rtj_trainer.preflight.doubt import settle
    from rtj_trainer.trainee import build_trainee

    module = builder.load_module(config.builder)
    cache = materialise(config, module, job, heart)
    factory = Factory(config, module, cache.source if cache else None)
    scratch = job.commits / f"{TEMPORARY_PREFIX}preflight-{config.attempt:06d}"
    pipeline = factory.pipeline(choice.commit_id is None, scratch)
    log.info("position strategy: %s, because %s", pipeline.strategy.name, pipeline.strategy.why)
    heart.report(strategy=pipeline.strategy.name)
    progress = Progress(steps_per_epoch=pipeline.strategy.batches_per_epoch, epochs=config.epochs)
    progress.total_steps = total_steps(config, progress.steps_per_epoch)
    check_extension(config, choice, progress)
    trainee = build_trainee(config, module, factory, pipeline, progress)
    data = look_at([config.builder.dataset_params, config.builder.validation_params], job.root)
    identity = {
        "files": data.contents,
        "fileTimes": data.times,
        "source": fingerprint.of_source(builder.source_files(config.builder, module)),
        "dataset": {"function": config.builder.dataset_function, **config.builder.dataset_params},
        "seed": config.seed,
        **trainee.identity,
        **pipeline.identity,
    }
    if choice.commit_id is None:
        depends_on = {**identity, "environment": environment}
        settle(config, pipeline.unproven, depends_on, job.root / "preflight")
    with seeding.undisturbed():
        pipeline.position.start(_step(choice))
    if choice.manifest:
        saved = Fingerprint(choice.manifest.fingerprint, choice.manifest.environment)
        current = Fingerprint(identity, environment)
        if changed := fingerprint.check(saved, current, config.fingerprint_policy):
            _warn(heart, Reason.FINGERPRINT_CHANGED, changed)
    ledger_hash = _restore(job, choice, trainee.state, pipeline.position, progress)
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
        "target": target_of(config),
    }
    committer = Committer(
        job,
        config.attempt,
        config.checkpoint,
        trainee.state,
        pipeline.position,
        ledger,
        constant,
        choice.commit_id,
        stop,
        heart,
    )
    TrainingLoop(
        trainee.step_function,
        pipeline.position,
        progress,
        trainee.epochs,
        ledger,
        committer,
        heart,
        stop,
    ).run()
    if cache:
        cache.use.release()
    return f"complete at step {progress.step} after {progress.samples} examples"


def _record_start(job: JobDirectory, start: Start) -> None:
    try:
        attempts.write_start_record(job, start.record)
    except OSError as error:
        raise UserError(Reason.VOLUME_UNUSABLE, f"{job.root}: {explain(error)}") from error


def _restore(
    job: JobDirectory,
    choice: Choice,
    state: Any,
    position: Any,
    progress: Progress,
) -> str:
    """Restore a commit; return its ledger hash."""
    if choice.commit_id is None or choice.manifest is None:
        return EMPTY_HASH
    folder: Path = job.commit(choice.commit_id)
    position.restore(folder)
    state.restore(folder)
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
