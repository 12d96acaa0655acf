"""Where an attempt starts: the newest commit, one that the user chose, or another job's.

What was decided once is in a start record and is not decided again, whoever asks: a request to go
back that an earlier attempt has answered, and the beginning of a fork.
"""

from dataclasses import dataclass, replace

from rtj_api.launch import TrainerConfig
from rtj_api.names import MAX_MESSAGE_LENGTH, Reason
from rtj_api.restore import RestoreAnswer, RestoreRequest

from rtj_trainer.commits import attempts, lineage
from rtj_trainer.commits.adoption import adopt
from rtj_trainer.commits.attempts import StartRecord
from rtj_trainer.commits.layout import CommitId, JobDirectory
from rtj_trainer.commits.lineage import Choice
from rtj_trainer.commits.manifest import CommitDamagedError, Manifest
from rtj_trainer.errors import PermanentError, UserError
from rtj_trainer.files import explain
from rtj_trainer.fork import import_commit

_SHOWN = 10


@dataclass(frozen=True)
class Start:
    """What an attempt goes on from, and what it must record before it trains."""

    choice: Choice
    record: StartRecord
    answers: bool = False
    """Whether this very attempt decides about the request to go back."""

    @property
    def went_back(self) -> bool:
        """Whether this very attempt goes back to a commit that the user chose."""
        answer = self.record.answer
        return self.answers and answer is not None and answer.reason is Reason.RESTORED


def find_start(config: TrainerConfig, job: JobDirectory) -> Start:
    """Decide what an attempt goes on from, and hold it under the attempt's own number.

    Raises:
        StopError: there is nothing to go on from; see `lineage.choose` and `fork.import_commit`.
    """
    try:
        before = attempts.newest_start_record(job, config.attempt)
    except ValueError:
        before = None  # A damaged record: choosing from the lineage says so.
    if config.fork_from and before is None:
        lineage.choose(job, config.attempt, expected_step=0)  # Refuses if a record was there once.
        choice = import_commit(config, job, config.fork_from)
        return Start(choice, StartRecord(config.attempt, None))
    request = config.restore
    if request is None:
        choice = _choose(config, job)
        return Start(choice, StartRecord(config.attempt, choice.starts_from))
    answer = before.answer if before else None
    if answer and answer.request >= request.request:
        choice = _choose(config, job)
        return Start(choice, StartRecord(config.attempt, choice.starts_from, answer))
    return _go_back(config, job, request, is_new=before is None)


def _go_back(
    config: TrainerConfig, job: JobDirectory, request: RestoreRequest, *, is_new: bool
) -> Start:
    """Go back if that is possible; else go on, and say why, since nothing may be lost by asking."""
    field = f"spec.restore.fromCommit {request.commit!r}"
    commit_id = CommitId.parse(request.commit)
    reason, why = Reason.COMMIT_NOT_FOUND, "this job has no such commit"
    if commit_id is not None and commit_id in job.commit_ids():
        try:
            _check_lineage(job, commit_id)
            manifest = _hold(config, job, commit_id)
        except CommitDamagedError as error:
            reason, why = Reason.COMMIT_DAMAGED, f"this commit is damaged ({error})"
        else:
            answer = RestoreAnswer(request=request.request, reason=Reason.RESTORED)
            record = StartRecord(config.attempt, commit_id, answer)
            held = replace(commit_id, attempt=config.attempt)
            return Start(Choice(held, manifest, starts_from=commit_id), record, answers=True)
    there = job.newest_commits(_SHOWN)
    if is_new and not job.commit_ids() and config.expected_step == 0:
        raise PermanentError(
            reason,
            f"{field}: {why}, since it is new. To start from a commit of another job, create it "
            "again with spec.forkFrom instead.",
        )
    choice = _choose(config, job)
    message = (
        f"{field}: {why}; there are: {', '.join(there) or 'none'}. Going on from "
        f"{choice.starts_from or 'step 0'} instead, as if it had not been set."
    )
    answer = RestoreAnswer(
        request=request.request, reason=reason, message=message[:MAX_MESSAGE_LENGTH]
    )
    return Start(choice, StartRecord(config.attempt, choice.starts_from, answer), answers=True)


def _choose(config: TrainerConfig, job: JobDirectory) -> Choice:
    return lineage.choose(
        job, config.attempt, config.expected_step, lambda found: _hold(config, job, found)
    )


def _hold(config: TrainerConfig, job: JobDirectory, commit_id: CommitId) -> Manifest:
    """Make a commit this attempt's own. Raises CommitDamagedError, UserError."""
    try:
        return adopt(job, commit_id, config.attempt)
    except OSError as error:
        raise UserError(Reason.VOLUME_UNUSABLE, f"{job.root}: {explain(error)}") from error


def _check_lineage(job: JobDirectory, commit_id: CommitId) -> None:
    """Refuse a commit whose history cannot be followed: its ledger could not be either."""
    try:
        known = attempts.read_start_record(job, commit_id.attempt)
    except ValueError as error:
        raise CommitDamagedError(str(error)) from error
    if known is None:
        raise CommitDamagedError(f"attempt {commit_id.attempt} left no start record")
