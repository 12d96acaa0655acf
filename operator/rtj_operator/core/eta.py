"""When a job will be complete, if nothing interrupts it any more.

The speed is the trainer's own, over the last five minutes with the commits in them. Interruptions
to come are left out on purpose: what they have cost so far says little about a job that was killed
once, and `status.goodput` stands beside it.
"""

from datetime import datetime, timedelta

from rtj_api.status import JobStatus

from rtj_operator.core.judge import is_training
from rtj_operator.core.observed import Observed

LONGEST_SECONDS = 100 * 365 * 86_400
"""A hundred years: what is further away is no estimate, and may be no date."""


def estimated_completion(observed: Observed, status: JobStatus, now: datetime) -> datetime | None:
    """Return the time of the last step, in whole seconds; None while there is nothing to tell."""
    beat, spec, attempt = observed.beat, observed.job.spec, status.attempt
    if attempt is None or beat is None or spec is None or not is_training(beat):
        return None
    if beat.attempt != attempt.number:
        return None  # The attempt that has just ended was the last one to tell.
    total = spec.total_steps or beat.position.total_steps
    if not total or not beat.steps_per_second:
        return None
    left = max(total - beat.position.step, 0) / beat.steps_per_second
    if left > LONGEST_SECONDS:
        return None
    return (now + timedelta(seconds=left)).replace(microsecond=0)
