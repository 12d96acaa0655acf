"""A decision in the making: the status so far, and what is to be done and said."""

from datetime import datetime
from typing import Any, Literal

from rtj_api.names import Cause, Condition, Phase, Reason
from rtj_api.status import MAX_ATTEMPTS_KEPT, EndedAttempt, JobStatus

from rtj_operator.core.classify import MESSAGE_LENGTH, Ending
from rtj_operator.core.conditions import find, is_true, with_condition
from rtj_operator.core.decision import NOTICE_LENGTH, Action, Decision, Notice
from rtj_operator.core.eta import estimated_completion
from rtj_operator.core.observed import Observed
from rtj_operator.core.timekeeping import accounted

LONGEST_SLEEP_SECONDS = 3600.0


class Plan:
    """Collects a decision; the only thing in the core that changes, and only while deciding."""

    def __init__(self, observed: Observed, now: datetime) -> None:
        self.observed = observed
        self.now = now
        self.status: JobStatus = observed.job.status.model_copy(
            update={"observed_generation": observed.job.generation}
        )
        self.mirrored = False
        self._actions: list[Action] = []
        self._notices: list[Notice] = []
        self._wake: float | None = None

    def update(self, **fields: Any) -> None:
        """Set fields of the status."""
        self.status = self.status.model_copy(update=fields)

    def condition(self, type_: Condition, value: bool | None, reason: Reason, message: str) -> None:
        """Set one condition."""
        self.update(
            conditions=with_condition(
                self.status.conditions,
                type_,
                value,
                reason,
                message,
                now=self.now,
                generation=self.observed.job.generation,
            )
        )

    def is_true(self, type_: Condition) -> bool:
        """Whether the condition is True as things stand."""
        return is_true(self.status.conditions, type_)

    def act(self, action: Action) -> None:
        """Do this after the status was written."""
        self._actions.append(action)

    def say(
        self,
        reason: Reason,
        message: str,
        severity: Literal["Normal", "Warning"] = "Normal",
        *,
        once: bool = False,
    ) -> None:
        """Post an Event after the actions; `once` as in `Notice`."""
        self._notices.append(
            Notice(reason, message[:NOTICE_LENGTH], self.newest_number, severity, once)
        )

    def wake(self, seconds: float | None) -> None:
        """Look again after this long at the latest."""
        if seconds is None:
            return
        seconds = min(max(seconds, 0.0), LONGEST_SLEEP_SECONDS)
        self._wake = seconds if self._wake is None else min(self._wake, seconds)

    @property
    def writes(self) -> bool:
        """Whether the status, as it is so far, is to be written, or may be."""
        return self.mirrored or self.status != self.observed.job.status

    @property
    def newest_number(self) -> int:
        """The highest attempt number in status; 0 before the first."""
        ended = self.status.attempts[-1].number if self.status.attempts else 0
        return max(ended, self.status.attempt.number if self.status.attempt else 0)

    @property
    def attempt_lives(self) -> bool:
        """Whether the pod of the current attempt is there and has not ended."""
        pod = self.observed.pod
        return self.status.attempt is not None and pod is not None and not pod.ended

    @property
    def next_is_restart(self) -> bool:
        """Whether the next attempt follows one that was not ended by the user's own wish."""
        ended = self.status.attempts
        return bool(ended) and ended[-1].cause is not Cause.SUSPENDED

    def account(self, ending: Ending | None = None) -> None:
        """Tell where the time until now went; before an attempt begins, and as it ends."""
        self.update(**accounted(self.status, self.observed, self.now, ending))

    def close_attempt(self, ending: Ending) -> None:
        """Move the current attempt to the ended ones."""
        if self.status.attempt is None:
            return
        self.account(ending)
        attempt = self.status.attempt
        pod, commit = self.observed.pod, self.status.last_commit
        ended = EndedAttempt(
            number=attempt.number,
            cause=ending.cause,
            reason=ending.reason,
            message=ending.message[:MESSAGE_LENGTH],
            rule_action=ending.rule_action,
            exit_code=ending.exit_code,
            node_name=attempt.node_name or (pod.node if pod else None),
            first_step=attempt.first_step,
            last_step=attempt.last_step,
            committed_step=commit.step if commit else None,
            start_time=attempt.decided_time,
            end_time=self.now,
            time=attempt.time,
        )
        attempts = [*self.status.attempts, ended][-MAX_ATTEMPTS_KEPT:]
        self.update(attempt=None, attempts=attempts)

    def finish(self, phase: Phase, reason: Reason, message: str) -> None:
        """End the job for good."""
        if self.status.attempt:
            self.close_attempt(Ending(Cause.PERMANENT, reason, message))
        done = phase is Phase.COMPLETED
        self.update(phase=phase, completion_time=self.now, next_attempt_time=None)
        if done:
            self.update(progress="100%")
        self.condition(Condition.RUNNING, False, reason, message)
        for passing in (Condition.RESTARTING, Condition.SUSPENDED):
            if find(self.status.conditions, passing):
                self.condition(passing, False, reason, message)
        self.condition(Condition.COMPLETE if done else Condition.FAILED, True, reason, message)
        self.say(reason, message, "Normal" if done else "Warning")

    def decision(self) -> Decision:
        """Return the whole. What follows from the clock alone is told along, and costs no write."""
        before = self.observed.job.status
        if self.status != before and not before.phase.final:
            self.account()
            eta = estimated_completion(self.observed, self.status, self.now)
            self.update(estimated_completion_time=eta)
        return Decision(
            self.status, tuple(self._actions), tuple(self._notices), self._wake, self.mirrored
        )
