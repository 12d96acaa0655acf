"""One attempt, from the fence to the last commit: the order in which everything happens."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from rtj_trainer.epochs import EpochCount
    from rtj_trainer.loop import TrainingLoop
    from rtj_trainer.pipeline import Pipeline
    from rtj_trainer.state import TrainingState

log = logging.getLogger(__name__)

_kept_until_exit: list[Any] = []
"""tf.data's iterators. Destroying one waits until the thread that tunes it wakes up, which took up to
12 s of the time that a pod had to stop. A trainer's process ends without destructors."""


@dataclass(frozen=True)
class Attempt:
    """An attempt that holds the volume and knows what it goes on from."""

    config: TrainerConfig
    job: JobDirectory
    start: Start
    heart: Heart
    stop: StopRequest

    @property
    def choice(self) -> Choice:
        """The commit to go on from."""
        return self.start.choice

    @property
    def complete(self) -> bool:
        """Whether that commit is the end of the job."""
        return is_complete(self.config, self.choice)

    @property
    def scratch(self) -> Path:
        """A folder that the checks may create and remove again."""
        return self.job.commits / f"{TEMPORARY_PREFIX}preflight-{self.config.attempt:06d}"

    def prepare(self) -> dict[str, Any]:
        """Prepare TensorFlow, before anything touches it; return what the numbers depend on."""
        manifest = self.choice.manifest
        return prepare_tensorflow(manifest.environment if manifest else {})

    def note(self, pipeline: "Pipeline") -> Progress:
        """Tell how the position is kept; return where the job is and where it ends."""
        _kept_until_exit.append(pipeline.position)
        strategy, config = pipeline.strategy, self.config
        log.info("position strategy: %s, because %s", strategy.name, strategy.why)
        self.heart.report(strategy=strategy.name)
        progress = Progress(steps_per_epoch=strategy.batches_per_epoch, epochs=config.epochs)
        progress.total_steps = total_steps(config, progress.steps_per_epoch)
        check_extension(config, self.choice, progress)
        return progress

    def identity(
        self, sources: dict[str, Path], dataset: dict[str, Any], params: list[Any]
    ) -> dict[str, Any]:
        """Return what must be the same in the next attempt, whoever takes the steps.

        Args:
            sources: The program's own files, by module name.
            dataset: Name and parameters of the function that builds the dataset.
            params: Parameters in which data files may be named.
        """
        data = look_at(params, self.job.root)
        return {
            "files": data.contents,
            "fileTimes": data.times,
            "source": fingerprint.of_source(sources),
            "dataset": dataset,
            "seed": self.config.seed,
        }

    def loop(
        self,
        environment: dict[str, Any],
        identity: dict[str, Any],
        pipeline: "Pipeline",
        progress: Progress,
        state: "TrainingState",
        epochs: "EpochCount",
    ) -> "TrainingLoop":
        """Go to the position of the commit, check that it fits, and return the loop from there.

        Args:
            environment: From `prepare`.
            identity: Must be the same in the next attempt.
            pipeline: The data.
            progress: From `note`.
            state: All variables, built.
            epochs: What belongs to an epoch and not to a step.

        Raises:
            StopError: the job is another than the commit's, or the commit cannot be restored.
        """
        from rtj_trainer import seeding
        from rtj_trainer.loop import TrainingLoop
        from rtj_trainer.preflight.doubt import settle

        config, job, choice, heart = self.config, self.job, self.choice, self.heart
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
        ledger_hash = _restore(job, choice, state, pipeline.position, progress)
        heart.follow(progress)
        self.record_start()
        self._report_answer()
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
            state,
            pipeline.position,
            ledger,
            constant,
            choice.commit_id,
            self.stop,
            heart,
        )
        return TrainingLoop(
            pipeline.position, progress, epochs, ledger, committer, heart, self.stop
        )

    def record_start(self) -> None:
        """Make durable what the attempt goes on from; only then its commits count."""
        try:
            attempts.write_start_record(self.job, self.start.record)
        except OSError as error:
            raise _unusable(self.job, error) from error

    def _report_answer(self) -> None:
        start = self.start
        if answer := start.record.answer:
            self.heart.report(restore=answer)
            if start.answers and not start.went_back:
                _warn(self.heart, answer.reason, answer.message)


def run_attempt(config: TrainerConfig, pod_uid: str, heart: Heart, stop: StopRequest) -> str:
    """Train until the job is complete; return a sentence about how it ended.

    Raises:
        StopError: every other planned end.
    """
    with opened(config, pod_uid, heart, stop) as attempt:
        if attempt.complete:
            attempt.record_start()
            return f"was complete at step {_step(attempt.choice)} already"
        return _train(attempt)


@contextmanager
def opened(
    config: TrainerConfig, pod_uid: str, heart: Heart, stop: StopRequest
) -> Iterator[Attempt]:
    """Fence the volume and choose what to go on from; watch over the process until the end.

    Raises:
        StopError: the volume cannot be used, or there is nothing to go on from.
    """
    job = JobDirectory(config.volume / config.job_uid)
    try:
        job.create()
        attempts.create_fence(job, config.attempt, pod_uid)
        retention.remove_leftovers(job, config.attempt)
    except OSError as error:
        raise _unusable(job, error) from error
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
    config = attempt.config
    environment = attempt.prepare()
    # These import TensorFlow, so they wait until its threads are set.
    from rtj_trainer.cache.materialise import materialise
    from rtj_trainer.pipeline import Factory
    from rtj_trainer.trainee import build_trainee

    spec = config.builder
    module = builder.load_module(spec)
    cache = materialise(config, module, attempt.job, attempt.heart)
    factory = Factory(config, module, cache.source if cache else None)
    pipeline = factory.pipeline(attempt.choice.commit_id is None, attempt.scratch)
    progress = attempt.note(pipeline)
    trainee = build_trainee(config, module, factory, pipeline, progress)
    common = attempt.identity(
        builder.source_files(spec, module),
        {"function": spec.dataset_function, **spec.dataset_params},
        [spec.dataset_params, spec.validation_params],
    )
    identity = {**common, **trainee.identity, **pipeline.identity}
    attempt.loop(environment, identity, pipeline, progress, trainee.state, trainee.epochs).run(
        trainee.epochs.train
    )
    if cache:
        cache.use.release()
    return ended(progress)


def ended(progress: Progress) -> str:
    """Return a sentence about a job that is complete."""
    return f"complete at step {progress.step} after {progress.samples} examples"


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


def _unusable(job: JobDirectory, error: OSError) -> UserError:
    return UserError(Reason.VOLUME_UNUSABLE, f"{job.root}: {explain(error)}")


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
