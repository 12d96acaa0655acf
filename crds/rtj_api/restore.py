"""Starting from a commit that somebody chose: going back in a job, and forking another.

Both are decided once. A request to go back has a number, the generation of the spec that made it,
and travels with it from `spec.restore` over `status.restore` and the trainer's configuration to the
start record on the volume; there it is answered, exclusively, and from there the answer comes back.
A fork is decided by its first start record. So neither a crash nor a retry goes back twice.
"""

from typing import Annotated

from pydantic import Field

from rtj_api.names import MAX_JOB_NAME_LENGTH, OpenEnum
from rtj_api.wire import SpokenReason, WireModel

LATEST = "latest"
MAX_COMMITS_SHOWN = 20
_COMMIT = r"[0-9]{12}-[0-9]{6}(-final|-epoch)?"

CommitName = Annotated[str, Field(min_length=19, max_length=25, pattern=rf"^{_COMMIT}$")]
CommitChoice = Annotated[
    str, Field(min_length=6, max_length=25, pattern=rf"^({LATEST}|{_COMMIT})$")
]
JobUid = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
JobName = Annotated[
    str,
    Field(min_length=1, max_length=MAX_JOB_NAME_LENGTH, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
]


def step_of(commit: str) -> int:
    """Return the step that is in a commit, from its name; 0 for `latest`, which names none."""
    return 0 if commit == LATEST else int(commit.split("-")[0])


class Restore(WireModel):
    """Go back to an older commit of this job."""

    from_commit: CommitName = Field(
        description=(
            "Go on from this commit of the job itself, one of status.commits, such as "
            "000000000120-000003. Setting or changing it on a live job stops the attempt that "
            "runs, gracefully, and the next one starts from the commit; that happens once, and "
            "later attempts go on from the newest commit as always. To go back to the same commit "
            "again, take spec.restore out, wait until status.restore is gone, and set it again: "
            "before that it is the same request still."
        )
    )


class ForkFrom(WireModel):
    """Start a new job from a commit of another one, on the same claim."""

    job_name: JobName | None = Field(
        None,
        description=(
            "The other job, in this namespace. Exactly one of jobName and jobUid is required."
        ),
    )
    job_uid: JobUid | None = Field(
        None,
        description=(
            "metadata.uid of the other job, which may be gone: its folder on the claim has this "
            "name. Exactly one of jobName and jobUid is required."
        ),
    )
    commit: CommitChoice = Field(
        LATEST,
        description="The other job's commit, one of its status.commits. Default: latest.",
    )


class RestoreOutcome(OpenEnum):
    """What became of a request to go back."""

    PENDING = "Pending"
    RESTORED = "Restored"
    REFUSED = "Refused"


class RestoreStatus(WireModel):
    """The newest request to go back, and what became of it."""

    from_commit: str = Field(description="The commit that spec.restore.fromCommit named.")
    request: int = Field(
        ge=0, description="Number of the request: the generation of the spec that made it."
    )
    after_attempt: int = Field(
        ge=0, description="Newest attempt at that time; those after it know of the request."
    )
    outcome: RestoreOutcome = Field(
        RestoreOutcome.PENDING,
        description=(
            "Pending until an attempt starts from the commit: then Restored. Refused if that is "
            "not possible; the condition Restored says why."
        ),
    )


class ForkStatus(WireModel):
    """Where a forked job starts from."""

    job_name: str | None = Field(None, description="The other job, as spec.forkFrom names it.")
    job_uid: str = Field(description="UID of the other job.")
    commit: str = Field(description="The other job's commit, or latest.")


class RestoreAnswer(WireModel):
    """What the trainer made of a request to go back; kept in the start record."""

    request: int = Field(ge=0, description="Number of the request.")
    reason: SpokenReason = Field(description="Restored, CommitNotFound or CommitDamaged.")
    message: str = Field("", max_length=2048, description="Why not, in a sentence.")


class RestoreRequest(WireModel):
    """What a trainer is told of `spec.restore`."""

    request: int = Field(ge=0)
    commit: CommitName


class ForkRequest(WireModel):
    """What a trainer is told of `spec.forkFrom`; it matters until the first start record."""

    job_uid: JobUid
    commit: CommitChoice = LATEST
