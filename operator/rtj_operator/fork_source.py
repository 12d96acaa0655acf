"""Looking up the job that a fork starts from, before its first attempt.

Its uid names its folder on the claim. Status keeps it from then on, so that a job of the same name
that is made later is never taken for it.
"""

from typing import Any

from rtj_api.names import Phase, Reason
from rtj_api.restore import LATEST
from rtj_api.spec import JobSpec

from rtj_operator.cluster import JOBS, Cluster, Manifest, NotFoundError
from rtj_operator.core.observed import Job, Problem


async def find_fork(cluster: Cluster, job: Job, spec: JobSpec) -> str | Problem | None:
    """Return the uid of the job to fork, or what is wrong with it; None if nothing is to be found.

    Raises:
        ClusterError: it cannot be looked for.
    """
    wanted = spec.fork_from
    if wanted is None or job.status.forked_from:
        return None
    if wanted.job_name is None:
        return wanted.job_uid
    try:
        source = await cluster.get(JOBS, job.namespace, wanted.job_name)
    except NotFoundError:
        return _problem(
            wanted.job_name,
            f"there is no job of this name in namespace {job.namespace}. If it is gone, make this "
            "job again with spec.forkFrom.jobUid: the commits are still on the claim, in the "
            "folder of that name.",
        )
    if problem := _unfit(source, spec, wanted.commit):
        return _problem(wanted.job_name, problem)
    return str(source["metadata"]["uid"])


def _unfit(source: Manifest, spec: JobSpec, commit: str) -> str:
    claim = _at(source, "spec", "checkpoint").get("claimName")
    if claim != spec.checkpoint.claim_name:
        return (
            f"its spec.checkpoint.claimName is {claim!r}, not {spec.checkpoint.claim_name!r}. "
            "Make this job again with the same claim."
        )
    if commit != LATEST or _at(source, "status", "lastCommit"):
        return ""
    if _at(source, "status").get("phase") in (Phase.COMPLETED, Phase.FAILED):
        return (
            "it has ended without a commit, so none is to be waited for. Make this job again, "
            "without spec.forkFrom or with another job in it."
        )
    return "it has no commit yet. This job starts by itself when there is one."


def _at(manifest: Manifest, *path: str) -> dict[str, Any]:
    value: Any = manifest
    for name in path:
        value = value.get(name) or {}
    return value if isinstance(value, dict) else {}


def _problem(name: str, what: str) -> Problem:
    return Problem(Reason.FORK_SOURCE_NOT_FOUND, f"spec.forkFrom.jobName {name!r}: {what}")
