"""Mirroring the trainer's words into status: position, commit, share done."""

from datetime import datetime
from typing import Any

from rtj_api.heartbeat import Heartbeat, Position
from rtj_api.names import Phase
from rtj_api.restore import MAX_COMMITS_SHOWN
from rtj_api.status import MAX_BEST_SHOWN, CurrentAttempt, JobStatus

from rtj_operator.core.judge import has_recorded_start, is_training
from rtj_operator.core.observed import Observed, Pod


def share_done(position: Position, total_steps: int | None) -> str | None:
    """Return the share of all steps as whole percent, rounded down; None while unknown."""
    total = total_steps or position.total_steps
    if not total:
        return None
    return f"{min(100, 100 * position.step // total)}%"


def mirror_due(observed: Observed) -> bool:
    """Whether the heartbeat says something that status must carry now.

    A new commit is no reason: a trainer may commit every second, and nothing is lost meanwhile,
    since an end takes the last heartbeat along.
    """
    beat, status = observed.beat, observed.job.status
    if beat is None or status.attempt is None:
        return False
    if observed.since_mirrored >= observed.settings.mirror_interval:
        return True
    return is_training(beat) and status.attempt.running_time is None


def mirrored_fields(
    beat: Heartbeat, status: JobStatus, total_steps: int | None, now: datetime
) -> dict[str, Any]:
    """Return the fields of status that this beat of the current attempt changes.

    A position is taken only from a restored model: while it starts, a trainer says step 0.
    """
    attempt = status.attempt
    if attempt is None:
        return {}
    fields = _of_the_job(beat, status, total_steps)
    if is_training(beat):
        fields["attempt"] = attempt.model_copy(
            update={
                "running_time": attempt.running_time or now,
                "first_step": beat.started_from.step if beat.started_from else 0,
                "last_step": beat.position.step,
            }
        )
    return fields


def late_fields(
    beat: Heartbeat | None, status: JobStatus, total_steps: int | None
) -> dict[str, Any]:
    """Return the fields of a finished job's status that the last word of its last attempt changes.

    Its trainer may commit while the pod goes, and a fork starts from that commit. Where the time
    went was settled at the end.
    """
    last = status.attempts[-1] if status.attempts else None
    if beat is None or last is None or beat.attempt != last.number or not is_training(beat):
        return {}
    fields = _of_the_job(beat, status, total_steps)
    if status.phase is Phase.COMPLETED:
        del fields["progress"]  # It is complete, whatever the length of its epochs.
    steps = {"last_step": beat.position.step}
    if beat.commit:
        steps["committed_step"] = beat.commit.step
    fields["attempts"] = [*status.attempts[:-1], last.model_copy(update=steps)]
    return fields


def _of_the_job(beat: Heartbeat, status: JobStatus, total_steps: int | None) -> dict[str, Any]:
    """Return what a beat says of the job as a whole.

    A commit before the newest one is taken only once it is sure that the attempt goes on from it.
    """
    fields: dict[str, Any] = {}
    if beat.strategy:
        fields["strategy"] = beat.strategy
        fields["strategy_message"] = beat.strategy_message
    newest = status.last_commit
    falls = beat.commit is not None and newest is not None and beat.commit.step < newest.step
    unsure = falls and not has_recorded_start(beat)
    if beat.commit and not unsure:
        fields["last_commit"] = beat.commit
    if beat.commits:
        fields["commits"] = beat.commits[:MAX_COMMITS_SHOWN]
    if unsure or not is_training(beat):
        return fields
    fields["best_commits"] = beat.best_commits[:MAX_BEST_SHOWN]
    fields["commit_interval"] = beat.commit_interval
    fields["position"] = beat.position
    fields["progress"] = share_done(beat.position, total_steps) or status.progress
    return fields


IDENTIFIED_AFTER_SECONDS = 3.0
"""A trainer mostly speaks within this time of getting a node, which is then told in one write."""


def identified(attempt: CurrentAttempt, observed: Observed) -> CurrentAttempt:
    """Return the attempt with its pod's identity, once that pod has a node.

    Before that it cannot have touched the volume: nothing is lost if it vanishes and is created
    again under the same name, and a status write is saved.
    """
    pod, left = observed.last_pod, until_identified(observed)
    if pod is None or attempt.pod_uid or left is None or left > 0:
        return attempt
    return run_by(attempt, pod)


def run_by(attempt: CurrentAttempt, pod: Pod) -> CurrentAttempt:
    """Return the attempt with the identity of its pod."""
    return attempt.model_copy(update={"pod_uid": pod.uid, "node_name": pod.node})


def until_identified(observed: Observed) -> float | None:
    """Return the seconds until the node is worth a write of its own; None without one."""
    pod = observed.last_pod
    if observed.beat and pod:
        return 0.0
    if pod is None or pod.node is None:
        return None
    if observed.pod is None or pod.deleting or pod.ended:
        return 0.0
    return IDENTIFIED_AFTER_SECONDS - observed.silence.heartbeat


def progressed(beat: Heartbeat | None, committed_before: int | None) -> bool:
    """Whether the attempt of this beat moved the job's newest commit, or its cache, forward.

    A commit that became durable but was not reported before a kill is counted when the next
    attempt starts from it. A shard of the dataset's cache need not be written again either.
    """
    if beat is None:
        return False
    if beat.cache and beat.cache.shards:
        return True
    if beat.commit is None:
        return False
    if committed_before is None or beat.commit.step > committed_before:
        return True
    return beat.started_from is not None and beat.commit.step > beat.started_from.step
