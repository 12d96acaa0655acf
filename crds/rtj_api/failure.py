"""`spec.failurePolicy`: what each end of an attempt costs, and when the job gives up.

The rules have the form of `podFailurePolicy` of batch/v1 Job and of `failurePolicy` of JobSet, so
that who knows those has nothing to learn. What no retry can help is not theirs to decide.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from rtj_api.wire import WireModel

MAX_RULES = 20
MAX_PATTERN_LENGTH = 256
MAX_COUNT_DIGITS = 3
"""Of the upper counts in a pattern, together: nested, they then multiply to less than 1000."""
MAX_WINDOWED_RESTARTS = 100
"""With a window, status keeps the time of each restart that counts: a budget bounds that list."""

ContainerName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
ConditionType = Annotated[
    str,
    Field(
        min_length=1,
        max_length=316,
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    ),
]
ProcessExitCode = Annotated[int, Field(ge=0, le=255)]


class RuleAction(StrEnum):
    """What a rule of the failure policy does about an ended attempt."""

    IGNORE = "Ignore"
    COUNT = "Count"
    FAIL = "Fail"
    RECREATE = "Recreate"


class OnExitCodes(WireModel):
    """Which exit codes a rule is about; containers that exited with 0 are never looked at."""

    container_name: ContainerName | None = Field(
        None,
        description=(
            "Look at this container, or init container, alone; the trainer's is named trainer. "
            "Default: any container of the pod."
        ),
    )
    operator: Literal["In", "NotIn"] = Field(
        description="In: the exit code is one of values. NotIn: it is none of them."
    )
    values: list[ProcessExitCode] = Field(
        min_length=1,
        max_length=255,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description="Exit codes, ascending, each once. With In, 0 cannot be one of them.",
    )


class OnPodCondition(WireModel):
    """One condition that the pod must have had at its end."""

    type: ConditionType = Field(
        description="Type of the pod's condition, such as DisruptionTarget."
    )
    status: Literal["True", "False", "Unknown"] = Field(
        "True", description="Status that the condition must have. Default: True."
    )


class OnTerminationMessage(WireModel):
    """Which last words of the trainer a rule is about."""

    pattern: str = Field(
        min_length=1,
        max_length=MAX_PATTERN_LENGTH,
        description=(
            "Regular expression in RE2 syntax, so without look-around and backreferences, that is "
            "looked for anywhere in the first 2048 characters of the trainer's last message: its "
            "reason, a colon, a blank and its words, such as BuilderFailed: OSError: no route; "
            "else the end of its log. Escape a { that begins no count and, in brackets, each of "
            "[ ] & ~ - that stands for itself; flags such as (?i) go to the very start. The upper "
            "counts in braces, as in a{1,30}, may have at most three digits together."
        ),
    )


class FailureRule(WireModel):
    """What to do about attempts that end in a certain way."""

    name: ContainerName | None = Field(
        None,
        description="Name of the rule, for messages; each once. Default: its place in the list.",
    )
    action: RuleAction = Field(
        description=(
            "Ignore: the next attempt starts and no budget is charged; repeats without a new "
            "commit follow after growing pauses. Count: charged to runPolicy.backoffLimit, with "
            "its pause. Fail: the job fails at once with the reason FailedByRule. Recreate: the "
            "next attempt starts at once, on another node if there is one, charged as a "
            "disruption."
        )
    )
    on_exit_codes: OnExitCodes | None = Field(
        None, description="Match by the exit code of a container. Default: not matched by it."
    )
    on_pod_conditions: list[OnPodCondition] | None = Field(
        None,
        min_length=1,
        max_length=20,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description=(
            "Match if the pod had any of these conditions when it ended. Default: not matched by "
            "them."
        ),
    )
    on_termination_message: OnTerminationMessage | None = Field(
        None, description="Match by the trainer's last message. Default: not matched by it."
    )


class FailurePolicy(WireModel):
    """What each end of an attempt costs, and when the job gives up."""

    rules: list[FailureRule] = Field(
        default_factory=list,
        max_length=MAX_RULES,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description=(
            "Asked in order about each attempt that was preempted or that failed; the first match "
            "decides, and without one preemptions are charged as disruptions, failures to "
            "runPolicy.backoffLimit. Not asked: attempts that completed, hung or were suspended, "
            "and those that no retry can help (fingerprint mismatch, position lost, pipeline not "
            "resumable, and whatever else the trainer calls permanent), which always fail the job. "
            "Default: none."
        ),
    )
    max_disruption_restarts: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description=(
            "How many preemptions, evictions and lost nodes are answered with another attempt. "
            "Default: no limit."
        ),
    )
    max_no_progress_restarts: int = Field(
        3,
        ge=1,
        le=1000,
        description=(
            "The job fails when this many attempts in a row that had started their container were "
            "ended by disruptions without a new commit. Default: 3."
        ),
    )
    window_seconds: int | None = Field(
        None,
        ge=1,
        le=31_536_000,
        description=(
            "runPolicy.backoffLimit and maxDisruptionRestarts, both then at most 100, count only "
            "restarts within this many seconds; if set on a live job, counting starts then. "
            "Default: all restarts count."
        ),
    )
    cannot_start_timeout_seconds: int = Field(
        600,
        ge=10,
        le=604_800,
        description=(
            "Seconds that a pod may be unable to start, since its image cannot be pulled, its "
            "container cannot be created or a sidecar crashes before it, before the job fails. "
            "Waiting for a node, or for a pull that goes on, is not counted. A job without a "
            "commit fails at once if its image has an invalid name, or is not on the node with "
            "imagePullPolicy Never. Default: 600."
        ),
    )
