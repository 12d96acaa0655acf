"""`status.conditions`, as metav1.Condition wants them: a time changes only with its status."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from rtj_api.names import Condition, Reason
from rtj_api.status import ConditionStatus

MESSAGE_LENGTH = 4096
_STATUSES: dict[bool | None, Literal["True", "False", "Unknown"]] = {
    True: "True",
    False: "False",
    None: "Unknown",
}


def with_condition(
    conditions: Sequence[ConditionStatus],
    type_: Condition,
    value: bool | None,
    reason: Reason,
    message: str,
    *,
    now: datetime,
    generation: int,
) -> list[ConditionStatus]:
    """Return the list with one condition set; order and the others' content are kept.

    Args:
        conditions: The list before.
        type_: Which one.
        value: None means Unknown.
        reason: One word.
        message: Cut at `MESSAGE_LENGTH`.
        now: When it changed, if its status is another than before.
        generation: Of the spec that it was judged by.
    """
    old = find(conditions, type_)
    status = _STATUSES[value]
    new = ConditionStatus(
        type=type_,
        status=status,
        reason=reason,
        message=message[:MESSAGE_LENGTH],
        last_transition_time=old.last_transition_time if old and old.status == status else now,
        observed_generation=generation,
    )
    if old is None:
        return [*conditions, new]
    return [new if c.type is type_ else c for c in conditions]


def find(conditions: Sequence[ConditionStatus], type_: Condition) -> ConditionStatus | None:
    """Return the condition of this type, if it was ever set."""
    return next((c for c in conditions if c.type is type_), None)


def is_true(conditions: Sequence[ConditionStatus], type_: Condition) -> bool:
    """Whether the condition is True."""
    condition = find(conditions, type_)
    return condition is not None and condition.status == "True"
