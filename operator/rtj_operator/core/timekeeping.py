"""Where the time of a job went, kept so that the kinds always add up to the whole.

`status.time` is the whole, `status.attempt.time` the part of the current attempt in it; what is
left are the attempts that ended and the pauses between them, which never change any more. Each
write of status brings both up to now, and none is made for it: the interval since the last write
was spent in the state that was written then.

Time never goes backwards here: should the operator's clock be set back, the sum stays until the
clock has caught up.
"""

from datetime import datetime
from typing import Any

from rtj_api.names import Condition
from rtj_api.status import JobStatus
from rtj_api.time_spent import TimeSpent

from rtj_operator.core.attempt_time import Parts, parts_of_attempt
from rtj_operator.core.classify import Ending
from rtj_operator.core.conditions import is_true
from rtj_operator.core.observed import Observed


def accounted(
    status: JobStatus, observed: Observed, now: datetime, ending: Ending | None = None
) -> dict[str, Any]:
    """Return the fields of status that say where the time until now went.

    `status` is the one in the making; `ending` is what has just ended its attempt.
    """
    if status.start_time is None:
        return {}
    before = status.time or _unmeasured(status, now)
    elapsed = max(_seconds(status.start_time, now), before.total)
    attempt = status.attempt
    if attempt is None:
        kind = "suspended" if is_true(observed.job.status.conditions, Condition.SUSPENDED) else ""
        pause = TimeSpent(**{f"{kind or 'waiting'}_seconds": elapsed - before.total})
        return _told(_plus(before, pause))
    rest = _plus(before, attempt.time or TimeSpent(), sign=-1)
    share = _whole(parts_of_attempt(attempt, observed, now, ending), elapsed - rest.total)
    fields = _told(_plus(rest, share))
    return {**fields, "attempt": attempt.model_copy(update={"time": share})}


def finished_part(status: JobStatus) -> TimeSpent:
    """Return the time of all that is over: ended attempts, and the pauses between them."""
    current = status.attempt.time if status.attempt else None
    return _plus(status.time or TimeSpent(), current or TimeSpent(), sign=-1)


def seconds_between(before: JobStatus, after: JobStatus) -> dict[str, int]:
    """Return by kind what a status write added to the time that is over."""
    grown = _plus(finished_part(after), finished_part(before), sign=-1)
    return {
        name.removesuffix("_seconds"): value
        for name, value in grown
        if name != "uncommitted_seconds"  # Nothing that is over is still at risk.
    }


def goodput(time: TimeSpent) -> float | None:
    """Return the useful share, 0 to 1, of the time that is known; None if most is not."""
    known = time.total - time.unknown_seconds
    return time.useful_seconds / known if known > time.unknown_seconds else None


def _told(time: TimeSpent) -> dict[str, Any]:
    share = goodput(time)
    return {"time": time, "goodput": None if share is None else f"{int(100 * share)}%"}


def _unmeasured(status: JobStatus, now: datetime) -> TimeSpent:
    """Return the time before the first account: an operator without one was at work then."""
    until = status.attempt.decided_time if status.attempt else now
    start = status.start_time or until
    return TimeSpent(unknown_seconds=max(_seconds(start, until), 0))


def _seconds(start: datetime, end: datetime) -> int:
    return int((end - start).total_seconds())


def _plus(one: TimeSpent, other: TimeSpent, sign: int = 1) -> TimeSpent:
    added = {name: max(value + sign * getattr(other, name), 0) for name, value in one}
    return TimeSpent(**added)


def _whole(parts: Parts, total: int) -> TimeSpent:
    """Round the parts to whole seconds that add up to `total`, by the largest remainders.

    What the parts lack is unknown; what they have too much (a clock was set back) is taken from
    all of them alike.
    """
    if total <= 0:
        return TimeSpent()
    known = sum(parts.values())
    if total - known >= 1 or known <= 0:
        parts = {**parts, "unknown": parts.get("unknown", 0.0) + total - known}
        known = total
    scaled = {kind: value * total / known for kind, value in parts.items()}
    whole = {kind: int(value) for kind, value in scaled.items()}
    by_remainder = sorted(scaled, key=lambda kind: whole[kind] - scaled[kind])
    for kind in by_remainder[: total - sum(whole.values())]:
        whole[kind] += 1
    return TimeSpent(**{f"{kind}_seconds": value for kind, value in whole.items()})
