"""What a change of the spec of a live job does, field by field, and when.

The operator has a running attempt only through its pod, and a pod's spec is fixed. So what an
attempt is launched with waits for the next one; what the operator itself looks at counts at once;
and what the steps already trained depend on is refused. Every field of the spec is listed here, and
tests compare the list with the schema, with the rules and with docs/decisions.md.
"""

from enum import StrEnum


class Takes(StrEnum):
    """When a change of a field takes effect."""

    AT_ONCE = "at once"
    NEXT_ATTEMPT = "next attempt"
    NEVER = "refused"


CHANGES = {
    "spec.builder": Takes.NEVER,
    "spec.seed": Takes.NEVER,
    "spec.epochs": Takes.NEXT_ATTEMPT,
    "spec.totalSteps": Takes.NEXT_ATTEMPT,
    "spec.dataset.cache.batchSize": Takes.NEVER,
    "spec.dataset.cache.shuffle": Takes.NEVER,
    "spec.dataset.cache.dropRemainder": Takes.NEVER,
    "spec.dataset.cache.maxSize": Takes.NEXT_ATTEMPT,
    "spec.dataset.cache.url": Takes.NEXT_ATTEMPT,
    "spec.checkpoint.claimName": Takes.NEVER,
    "spec.checkpoint.everySteps": Takes.NEXT_ATTEMPT,
    "spec.checkpoint.everySeconds": Takes.NEXT_ATTEMPT,
    "spec.checkpoint.auto": Takes.NEXT_ATTEMPT,
    "spec.checkpoint.keep": Takes.NEXT_ATTEMPT,
    "spec.checkpoint.keepEverySteps": Takes.NEXT_ATTEMPT,
    "spec.checkpoint.keepBest": Takes.NEXT_ATTEMPT,
    "spec.trainer": Takes.NEXT_ATTEMPT,
    "spec.runPolicy": Takes.AT_ONCE,
    "spec.failurePolicy": Takes.AT_ONCE,
    "spec.hangPolicy": Takes.AT_ONCE,
    "spec.fingerprintPolicy": Takes.NEXT_ATTEMPT,
    "spec.restore": Takes.AT_ONCE,
    "spec.forkFrom": Takes.NEVER,
}
"""By dotted path; a path speaks for everything below it."""


SET_ONCE = frozenset({"spec.dataset.cache"})
"""Groups that cannot come or go on a live job, whatever becomes of a field in them."""


def takes(path: str) -> Takes | None:
    """Return when a change of this field takes effect; None for a group that has several answers.

    Raises:
        KeyError: the field is not listed, and neither is what it is a part of.
    """
    plain = path.replace("[]", "")
    parts = plain.split(".")
    for end in range(len(parts), 1, -1):
        if found := CHANGES.get(".".join(parts[:end])):
            return found
    if any(listed.startswith(f"{plain}.") for listed in CHANGES):
        return None
    raise KeyError(f"{path} is not listed in rtj_api.changes")
