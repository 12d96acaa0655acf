"""Telling that the position of a job went back although nobody asked for it.

An attempt that finds the newest commit damaged goes on from an older one. Its trainer warns of it,
but a warning is gone after the next one or the next commit, and the operator may be away until
then. So it is seen from what stays: each beat of an attempt has the step that it started from, and
status has what was committed when the attempt before it ended.
"""

from rtj_api.heartbeat import Heartbeat
from rtj_api.names import Condition, Reason
from rtj_api.restore import step_of
from rtj_api.status import JobStatus

from rtj_operator.core.conditions import find
from rtj_operator.core.judge import has_recorded_start
from rtj_operator.core.plan import Plan


def show(plan: Plan, beat: Heartbeat) -> None:
    """Say it once of each attempt; the first wording stays, since it may have the reasons."""
    lost = lost_step(plan.status, beat)
    if lost is None:
        return
    told = (
        f"Attempt {beat.attempt} goes on from step {_first_step(beat)}, although step {lost} was "
        "committed: "
    )
    old = find(plan.status.conditions, Condition.POSITION_REGRESSED)
    if old and old.message.startswith(told):
        return
    message = f"{told}{_why(beat)}. The steps between are trained again, with the same result."
    plan.condition(Condition.POSITION_REGRESSED, True, Reason.POSITION_REGRESSED, message)
    plan.say(Reason.POSITION_REGRESSED, message, "Warning")


def lost_step(status: JobStatus, beat: Heartbeat) -> int | None:
    """Return the step that this beat's attempt should have gone on from; None if it did.

    To go back to a commit that the user named is no loss, to one before that is.
    """
    if not has_recorded_start(beat):
        return None
    ended = [attempt for attempt in status.attempts if attempt.number < beat.attempt]
    expected = (ended[-1].committed_step if ended else None) or 0
    if beat.restore and beat.restore.reason is Reason.RESTORED:
        asked = status.restore
        known = asked is not None and asked.request == beat.restore.request
        expected = min(expected, step_of(asked.from_commit) if asked and known else 0)
    return expected if _first_step(beat) < expected else None


def _first_step(beat: Heartbeat) -> int:
    return beat.started_from.step if beat.started_from else 0


def _why(beat: Heartbeat) -> str:
    if beat.warning and beat.warning.reason is Reason.POSITION_REGRESSED:
        return beat.warning.message.rstrip(" .")
    return "the log of its trainer says which commits were passed over, and why"
