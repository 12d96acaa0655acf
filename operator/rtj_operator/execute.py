"""Carrying out all of a decision, whatever is refused or fails on the way."""

import logging
from collections.abc import Awaitable, Callable

from rtj_api.names import Reason

from rtj_operator.act import RefusedError, perform
from rtj_operator.cluster import (
    Cluster,
    ClusterError,
    ConflictError,
    Key,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from rtj_operator.core.decision import (
    Action,
    CreatePod,
    Decision,
    DeleteJob,
    DeletePod,
    EnsureObjects,
)
from rtj_operator.core.observed import Job, Problem
from rtj_operator.memory import Memory
from rtj_operator.queue import UnfinishedError

log = logging.getLogger(__name__)

LONGEST_HIDDEN_FAILURE_SECONDS = 10.0
"""An error of the API server mostly passes; one that making or deleting a pod meets for longer,
such as a webhook that is down, must be seen by whoever reads the job."""

Warn = Callable[[Job, Problem], Awaitable[None]]
"""Sees to it that a warning is posted as an Event; never fails."""


class Executor:
    """Does what was decided, and remembers what was refused."""

    def __init__(self, cluster: Cluster, memory: Memory, warn: Warn) -> None:
        self._cluster = cluster
        self._memory = memory
        self._warn = warn

    async def carry_out(self, key: Key, job: Job, decision: Decision) -> float | None:
        """Carry out the actions; return the seconds until the next look.

        What is refused or fails keeps nothing from being deleted, and no clock from being seen; but
        no pod is made without what it needs.

        Raises:
            UnfinishedError: something failed; it has the time of the next look.
        """
        trouble: RefusedError | ClusterError | None = None
        due = decision.requeue_after
        for action in decision.actions:
            try:
                if isinstance(action, DeletePod | DeleteJob):
                    due = _sooner(due, await self._delete(key, job, action))
                elif trouble is None:
                    await self._perform(key, job, action)
            except (RefusedError, ClusterError) as error:
                trouble = trouble or error
        if isinstance(trouble, RefusedError):
            log.warning("refused", extra={"job": str(key), "reason": str(trouble)})
            pause = self._memory.refusals.refused(key, trouble.problem)
            return 0.0 if _wants_pod(decision) else _sooner(due, pause)
        if trouble:
            raise UnfinishedError(trouble, due) from trouble
        return due

    async def _perform(self, key: Key, job: Job, action: Action) -> None:
        try:
            await perform(self._cluster, job, action)
        except (UnavailableError, ConflictError, NotFoundError) as error:
            creates = isinstance(action, CreatePod | EnsureObjects)
            if not creates or _hidden(error, self._memory.refusals.failed(key)):
                raise
            message = f"{job.name} gets no pod, since the API server fails: {error}"
            raise RefusedError(Problem(Reason.POD_REJECTED, message)) from error
        if isinstance(action, CreatePod):
            self._memory.refusals.over(key)
            self._memory.creations.note(key, action.manifest["metadata"]["name"])

    async def _delete(self, key: Key, job: Job, action: DeletePod | DeleteJob) -> float | None:
        """Delete; if that is refused, tell of it and return when it can be tried again."""
        refusals = self._memory.refusals
        what, name = job.uid, f"Job {job.name}"
        if isinstance(action, DeletePod):
            what, name = action.uid, f"Pod {action.name}"
        if standing := refusals.standing(key, what):
            return standing[1]
        try:
            await perform(self._cluster, job, action)
        except (RejectedError, UnavailableError) as error:
            if isinstance(error, UnavailableError) and _hidden(error, refusals.failed(key, what)):
                raise
            problem = Problem(Reason.DELETION_REJECTED, f"{name} cannot be deleted: {error}")
            await self._warn(job, problem)
            return refusals.refused(key, problem, what)
        refusals.over(key, what)
        return None


def _hidden(error: ClusterError, failing: float) -> bool:
    """Whether a failure that has lasted so many seconds may be over in a moment."""
    told_to_wait = isinstance(error, UnavailableError) and error.retry_after > 0
    return told_to_wait or failing < LONGEST_HIDDEN_FAILURE_SECONDS


def _wants_pod(decision: Decision) -> bool:
    """Whether a pod is to be made: if that is refused, a look at once must tell the user why."""
    return any(isinstance(action, CreatePod) for action in decision.actions)


def _sooner(due: float | None, pause: float | None) -> float | None:
    """Return the smaller of two times until a look; None is never."""
    return min((seconds for seconds in (due, pause) if seconds is not None), default=None)
