"""Which jobs want nothing: of those a cluster may keep thousands, and they should cost nothing."""

from rtj_api.names import Phase

from rtj_operator.core.observed import Job


def at_rest(job: Job) -> bool:
    """Whether nothing happens to the job until somebody changes it, or something of it moves.

    Its status must say so, about this very spec, and no clock of the whole job nor a pause may run.
    Whether a pod was left over is for the caller to see.
    """
    status, spec = job.status, job.spec
    if job.deleting or status.observed_generation != job.generation:
        return False
    if status.phase.final:
        return spec is None or spec.run_policy.ttl_seconds_after_finished is None
    return (
        status.phase is Phase.SUSPENDED
        and spec is not None
        and spec.run_policy.suspend
        and spec.run_policy.active_deadline_seconds is None
        and status.next_attempt_time is None
    )
