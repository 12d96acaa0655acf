"""An attempt that holds the volume: what it shares with every other, whoever takes the steps.

It joins the commit that it goes on from, the data and the state to a loop that stands at the right
place.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtj_api.heartbeat import FinalRecord
from rtj_api.launch import TrainerConfig
from rtj_api.names import ExitCode, Reason
from rtj_api.restore import MAX_COMMITS_SHOWN

from rtj_trainer import fingerprint, hash_seed
from rtj_trainer.commits import attempts
from rtj_trainer.commits.layout import TEMPORARY_PREFIX, JobDirectory
from rtj_trainer.commits.lineage import Choice
from rtj_trainer.committer import Committer
from rtj_trainer.data_files import look_at
from rtj_trainer.environment import prepare_tensorflow
from rtj_trainer.errors import PermanentError, UserError
from rtj_trainer.files import explain
from rtj_trainer.fingerprint import Fingerprint
from rtj_trainer.heartbeat import Heart
from rtj_trainer.imports import not_compared
from rtj_trainer.ledger import EMPTY_HASH, LedgerWriter
from rtj_trainer.origin import Start
from rtj_trainer.progress import Progress
from rtj_trainer.signals import StopRequest
from rtj_trainer.target import check_extension, is_complete, target_of, total_steps

if TYPE_CHECKING:
    from rtj_trainer.epochs import EpochCount
    from rtj_trainer.loop import TrainingLoop
    from rtj_trainer.pipeline import Pipeline
    from rtj_trainer.state import TrainingState

log = logging.getLogger(__name__)

_kept_until_exit: list[Any] = []
"""tf.data's iterators. Destroying one waits until the thread that tunes it wakes up, which took up
to 12 s of the time that a pod had to stop. A trainer's process ends without destructors."""


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
        _kept_until_exit.append(pipeline.stream.position)
        strategy, config = pipeline.strategy, self.config
        log.info("position strategy: %s, because %s", strategy.name, strategy.why)
        self.heart.report(strategy=strategy.name, strategy_message=strategy.why)
        progress = Progress(lengths=pipeline.stream.lengths, epochs=config.epochs)
        progress.total_steps = total_steps(config, pipeline.stream.lengths)
        if not self.complete:
            check_extension(config, self.choice, progress)
        return progress

    def identity(
        self, sources: dict[str, Path], dataset: dict[str, Any], params: list[Any]
    ) -> dict[str, Any]:
        """Return what must be the same in the next attempt, whoever takes the steps.

        Args:
            sources: The program's own files, by module name.
            dataset: Name and parameters of the function that builds the dataset.
            params: Parameters in which data files may be named, and names of data files.
        """
        data = look_at(params, self.job.root)
        found = not_compared(sources, beside=self.config.builder.path is not None)
        imports = {"imports": found} if found else {}
        return {
            **imports,
            "files": data.contents,
            "fileTimes": data.times,
            "source": fingerprint.of_source(sources),
            "dataset": dataset,
            "seed": self.config.seed,
            "hashSeed": hash_seed.identity(),
        }

    def loop(
        self,
        *,
        environment: dict[str, Any],
        identity: dict[str, Any],
        pipeline: "Pipeline",
        progress: Progress,
        state: "TrainingState",
        epochs: "EpochCount",
        as_before: dict[str, Any],
    ) -> "TrainingLoop":
        """Go to the position of the commit, check that it fits, and return the loop from there.

        Args:
            environment: From `prepare`.
            identity: Must be the same in the next attempt.
            pipeline: The data.
            progress: From `note`.
            state: All variables, built.
            epochs: What belongs to an epoch and not to a step.
            as_before: What of the identity, the pipeline's aside, would be otherwise if only the
                batch size were still that of the commit.

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
            pipeline.stream.position.start(step_of(choice))
        if (manifest := choice.manifest) and not self.complete:
            saved = Fingerprint(manifest.fingerprint, manifest.environment, manifest.cutting)
            before = pipeline.stream.as_before.identity if pipeline.stream.as_before else {}
            compared = {**identity, **as_before, **before}
            current = Fingerprint(compared, environment, pipeline.stream.cutting)
            in_job = config.lease is not None
            policy = config.fingerprint_policy
            if changed := fingerprint.check(saved, current, policy, in_job=in_job):
                warn(heart, Reason.FINGERPRINT_CHANGED, changed)
        ledger_hash = _restore(job, choice, state, pipeline.stream.position, progress)
        heart.follow(progress)
        self.record_start()
        self._report_answer()
        ledger = LedgerWriter(job.ledger_segment(config.attempt), ledger_hash)
        constant = {
            "strategy": pipeline.strategy.name,
            "strategy_message": pipeline.strategy.why,
            "cutting": pipeline.stream.cutting,
            "fingerprint": identity,
            "environment": environment,
            "target": target_of(config),
        }
        committer = Committer(
            job=job,
            attempt=config.attempt,
            policy=config.checkpoint,
            state=state,
            position=pipeline.stream.position,
            ledger=ledger,
            constant=constant,
            last=choice.commit_id,
            stop=self.stop,
            listener=heart,
        )
        return TrainingLoop(
            pipeline.stream.position, progress, epochs, ledger, committer, heart, self.stop
        )

    def record_start(self) -> None:
        """Make durable what the attempt goes on from; only then its commits count, and are told."""
        try:
            attempts.write_start_record(self.job, self.start.record)
            commits = self.job.newest_commits(MAX_COMMITS_SHOWN)
        except OSError as error:
            raise unusable(self.job, error) from error
        self.heart.report(commits=commits)

    def _report_answer(self) -> None:
        start = self.start
        if answer := start.record.answer:
            self.heart.report(restore=answer)
            if start.answers and not start.went_back:
                warn(self.heart, answer.reason, answer.message)


def step_of(choice: Choice) -> int:
    """Return the step of a commit; 0 without one."""
    return choice.manifest.step if choice.manifest else 0


def warn(heart: Heart, reason: Reason, message: str) -> None:
    """Tell what a user should know, although training goes on."""
    log.warning(message)
    warning = FinalRecord(exit_code=ExitCode.COMPLETED, reason=reason, message=message[:2048])
    heart.report(warning=warning)


def unusable(job: JobDirectory, error: OSError) -> UserError:
    """Return the end of an attempt whose volume cannot be written."""
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
