"""One attempt, from the fence to the last commit: the order in which everything happens."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rtj_api.heartbeat import CommitRef, TrainerPhase
from rtj_api.launch import TrainerConfig
from rtj_api.names import Reason
from rtj_api.restore import MAX_COMMITS_SHOWN

from rtj_trainer import builder, hash_seed, startup
from rtj_trainer.commits import attempts, retention
from rtj_trainer.commits.layout import JobDirectory
from rtj_trainer.heartbeat import Heart
from rtj_trainer.joining import Attempt, step_of, unusable
from rtj_trainer.origin import Start, find_start
from rtj_trainer.progress import Progress
from rtj_trainer.signals import StopRequest
from rtj_trainer.stacks import StackFolder, Watchdog

if TYPE_CHECKING:
    from rtj_trainer.watch import Watch

log = logging.getLogger(__name__)


def run_attempt(config: TrainerConfig, pod_uid: str, heart: Heart, stop: StopRequest) -> str:
    """Train until the job is complete; return a sentence about how it ended.

    Raises:
        StopError: every other planned end.
    """
    with opened(config, pod_uid, heart, stop) as attempt:
        if config.builder.train_function:
            startup.end_import()
            from rtj_trainer.own_loop.function import run_function

            return run_function(attempt)
        if attempt.complete:
            attempt.record_start()
            return f"was complete at step {step_of(attempt.choice)} already"
        return _train(attempt)


@contextmanager
def opened(
    config: TrainerConfig, pod_uid: str, heart: Heart, stop: StopRequest
) -> Iterator[Attempt]:
    """Fence the volume and choose what to go on from; watch over the process until the end.

    Raises:
        StopError: the volume cannot be used, or there is nothing to go on from.
    """
    hash_seed.check()
    job = JobDirectory(config.volume / config.job_uid)
    try:
        job.create()
        attempts.create_fence(job, config.attempt, pod_uid)
        retention.remove_leftovers(job, config.attempt)
    except OSError as error:
        raise unusable(job, error) from error
    stacks = StackFolder(job, config.attempt)
    stacks.prune()
    heart.dump_with(stacks.dump)
    with Watchdog(stacks.watchdog_file):
        heart.report(watchdog_path=job.from_claim(stacks.watchdog_file))
        heart.check_superseded()
        if config.fork_from:
            heart.report(phase=TrainerPhase.RESTORING)
        start = find_start(config, job)
        _report_choice(config, start, heart)
        heart.report(commits=job.newest_commits(MAX_COMMITS_SHOWN))
        yield Attempt(config, job, start, heart, stop)


def _train(attempt: Attempt) -> str:
    environment = attempt.prepare()
    # These import TensorFlow, so they wait until its threads are set.
    from rtj_trainer.watch import Watch

    watch = Watch(
        "let the callback that uses it hold it, and give that get_state(self) and "
        "set_state(self, state); a layer keeps one that is made by add_weight() or "
        "keras.random.SeedGenerator"
    )
    with watch.made():
        return _watched(attempt, environment, watch)


def _watched(attempt: Attempt, environment: dict[str, Any], watch: "Watch") -> str:
    from rtj_trainer.cache.materialise import materialise
    from rtj_trainer.pipeline import Factory
    from rtj_trainer.trainee import build_trainee

    config = attempt.config
    spec = config.builder
    module = builder.load_module(spec)
    first_start = attempt.choice.commit_id is None
    with watch.passing():
        cache = materialise(config, module, attempt.job, attempt.heart, fresh=first_start)
        factory = Factory(config, module, cache.source if cache else None)
        pipeline = factory.pipeline(first_start, attempt.scratch, attempt.choice.manifest)
    progress = attempt.note(pipeline)
    trainee = build_trainee(config, module, factory, pipeline, progress, watch)
    common = attempt.identity(
        builder.source_files(spec, module),
        {"function": spec.dataset_function, **spec.dataset_params},
        [
            # Not those of callbacks: they name what is written.
            *(spec.dataset_params, spec.batch_params, spec.validation_params, spec.model_params),
            *(pipeline.file_names, trainee.file_names),
        ],
    )
    batch = {"batch": {"function": spec.batch_function, **spec.batch_params}}
    identity = {**common, **batch, **trainee.identity, **pipeline.identity}
    with watch.passing():
        loop = attempt.loop(
            environment=environment,
            identity=identity,
            pipeline=pipeline,
            progress=progress,
            state=trainee.state,
            epochs=trainee.epochs,
            as_before=trainee.as_before,
        )
    trainee.state.begin(traced=False)
    with loop.running():
        for element in trainee.state.each(loop.steps()):
            trainee.epochs.train(element)
    if cache:
        cache.use.release()
    return ended(progress)


def ended(progress: Progress) -> str:
    """Return a sentence about a job that is complete."""
    return f"complete at step {progress.step} after {progress.samples} examples"


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
        log.warning(
            "going on from step %d, although step %d was committed",
            choice.manifest.step,
            config.expected_step,
        )
        # The operator says from which step to which; why, only this trainer knows.
        passed = [f"commit {item.commit_id}: {item.why}" for item in choice.rejected]
        heart.warn(Reason.POSITION_REGRESSED, "; ".join(passed) or "no newer commit is there")
