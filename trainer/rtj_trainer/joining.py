"""An attempt that holds the volume: what it shares with every other, whoever takes the steps.

It joins the commit that it goes on from, the data and the state to a loop that stands at the right
place.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtj_api.launch import TrainerConfig
from rtj_api.names import Reason
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

        position = pipeline.stream.position
        self._settle(pipeline, identity, environment)
        with seeding.undisturbed():
            position.start(step_of(self.choice))
        self._check_fingerprint(pipeline, {**identity, **as_before}, environment)
        ledger_hash = self._restore(state, position, progress)
        self.heart.follow(progress)
        self.record_start()
        self._report_answer()
        ledger = LedgerWriter(self.job.ledger_segment(self.config.attempt), ledger_hash)
        committer = self._committer(pipeline, state, ledger, identity, environment)
        return TrainingLoop(position, progress, epochs, ledger, committer, self.heart, self.stop)

    def _settle(
        self, pipeline: "Pipeline", identity: dict[str, Any], environment: dict[str, Any]
    ) -> None:
        """Rehearse a pipeline that no test has proven, before the job's first step."""
        from rtj_trainer.preflight.doubt import settle

        if self.choice.commit_id is None:
            depends_on = {**identity, "environment": environment}
            settle(self.config, pipeline.unproven, depends_on, self.job.root / "preflight")

    def _check_fingerprint(
        self, pipeline: "Pipeline", identity: dict[str, Any], environment: dict[str, Any]
    ) -> None:
        """Compare with the commit's what there would be if the batch size were still its own."""
        manifest, stream = self.choice.manifest, pipeline.stream
        if manifest is None or self.complete:
            return
        saved = Fingerprint(manifest.fingerprint, manifest.environment, manifest.cutting)
        before = stream.as_before.identity if stream.as_before else {}
        current = Fingerprint({**identity, **before}, environment, stream.cutting)
        policy, in_job = self.config.fingerprint_policy, self.config.lease is not None
        if changed := fingerprint.check(saved, current, policy, in_job=in_job):
            self.heart.warn(Reason.FINGERPRINT_CHANGED, changed)

    def _restore(self, state: "TrainingState", position: Any, progress: Progress) -> str:
        """Restore the commit; return its ledger hash."""
        commit_id, manifest = self.choice.commit_id, self.choice.manifest
        if commit_id is None or manifest is None:
            return EMPTY_HASH
        folder = self.job.commit(commit_id)
        position.restore(folder)
        state.restore(folder)
        restored = state.capture().sha256()
        if restored != manifest.state_sha256:
            raise PermanentError(
                Reason.POSITION_LOST,
                f"commit {commit_id} holds state {manifest.state_sha256}, "
                f"but restoring it gave {restored}",
            )
        progress.restore(manifest)
        log.info("restored step %d, state sha256 %s", progress.step, restored)
        return manifest.ledger_hash

    def _committer(
        self,
        pipeline: "Pipeline",
        state: "TrainingState",
        ledger: LedgerWriter,
        identity: dict[str, Any],
        environment: dict[str, Any],
    ) -> Committer:
        return Committer(
            job=self.job,
            attempt=self.config.attempt,
            policy=self.config.checkpoint,
            state=state,
            position=pipeline.stream.position,
            ledger=ledger,
            constant={
                "strategy": pipeline.strategy.name,
                "strategy_message": pipeline.strategy.why,
                "cutting": pipeline.stream.cutting,
                "fingerprint": identity,
                "environment": environment,
                "target": target_of(self.config),
            },
            last=self.choice.commit_id,
            stop=self.stop,
            listener=self.heart,
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
                self.heart.warn(answer.reason, answer.message)


def step_of(choice: Choice) -> int:
    """Return the step of a commit; 0 without one."""
    return choice.manifest.step if choice.manifest else 0


def unusable(job: JobDirectory, error: OSError) -> UserError:
    """Return the end of an attempt whose volume cannot be written."""
    return UserError(Reason.VOLUME_UNUSABLE, f"{job.root}: {explain(error)}")
