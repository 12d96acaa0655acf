"""Every name that more than one part of the project must spell alike.

Labels, annotations, conditions, reasons, exit codes and paths live here and nowhere else, so a
search for one of them finds its meaning, its writer and its readers.
"""

from enum import IntEnum, StrEnum
from typing import Self

GROUP = "resumable.training"
VERSION = "v1alpha1"
KIND = "ResumableTrainingJob"
PLURAL = "resumabletrainingjobs"
SINGULAR = "resumabletrainingjob"
SHORT_NAME = "rtj"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_JOB = f"{GROUP}/job-name"
"""On every pod, Lease and account of a job: the name of the job."""
LABEL_JOB_UID = f"{GROUP}/job-uid"
LABEL_ATTEMPT = f"{GROUP}/attempt"
ANNOTATION_HEARTBEAT = f"{GROUP}/heartbeat"
"""On the job's Lease: a `rtj_api.heartbeat.Heartbeat` as JSON."""
ANNOTATION_DUMP_STACKS = f"{GROUP}/dump-stacks"
"""On the job's Lease: the `Heartbeat.standstill` whose stacks the trainer is to write down."""

TRAINER_CONTAINER = "trainer"
FIELD_MANAGER = "rtj-operator"

MAX_JOB_NAME_LENGTH = 47
"""`<job>-<attempt>-<index>` must stay a DNS label of 63 characters."""

# Where the operator mounts things in a trainer pod.
VOLUME_MOUNT_PATH = "/var/lib/rtj"
BUILDER_MOUNT_PATH = "/etc/rtj/builder"
CONFIG_ENV = "RTJ_CONFIG"
"""Environment variable of the trainer container: a `rtj_api.launch.TrainerConfig` as JSON."""

HASH_SEED_ENV = "PYTHONHASHSEED"
"""Environment variable of Python: by its number, sets have the same order in each process."""

POD_UID_ENV = "RTJ_POD_UID"
"""Environment variable of the trainer container, from the downward API."""


class OpenEnum(StrEnum):
    """Words of which a newer peer may know more: one that is not known here stands for itself.

    So it is read, compared and written again like any other, and is none of the known ones.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word


class Phase(OpenEnum):
    """`status.phase`: one word for the State column."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    RESTARTING = "Restarting"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    FAILED = "Failed"

    @property
    def final(self) -> bool:
        """Whether nothing will ever be launched again for the job."""
        return self in (Phase.COMPLETED, Phase.FAILED)


class Condition(OpenEnum):
    """Types in `status.conditions`."""

    RUNNING = "Running"
    RESTARTING = "Restarting"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    CHECKPOINT_FRESH = "CheckpointFresh"
    COMPLETE = "Complete"
    FAILED = "Failed"
    RESTORED = "Restored"
    POSITION_REGRESSED = "PositionRegressed"


class Cause(OpenEnum):
    """What ended an attempt; decided once and kept in `status.attempts`."""

    COMPLETED = "Completed"
    PREEMPTED = "Preempted"
    USER_ERROR = "UserError"
    PERMANENT = "Permanent"
    HUNG = "Hung"
    SUSPENDED = "Suspended"


class Reason(OpenEnum):
    """CamelCase reasons of conditions and Events."""

    # What the operator does.
    ATTEMPT_LAUNCHED = "AttemptLaunched"
    WAITING_FOR_PODS = "WaitingForPods"
    TRAINING = "Training"
    COMPLETED = "Completed"
    SUSPENDED_BY_USER = "SuspendedByUser"
    RESUMED = "Resumed"
    JOB_DELETED = "JobDeleted"
    RESTORE_REQUESTED = "RestoreRequested"
    SPEC_CHANGED = "SpecChanged"
    # Why an attempt ended, or the job.
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    POD_DELETED = "PodDeleted"
    TRAINER_PREEMPTED = "TrainerPreempted"
    SUPERSEDED = "Superseded"
    TRAINER_FAILED = "TrainerFailed"
    OOM_KILLED = "OOMKilled"
    EPHEMERAL_STORAGE_EXCEEDED = "EphemeralStorageExceeded"
    TRAINER_HUNG = "TrainerHung"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    DISRUPTION_LIMIT_EXCEEDED = "DisruptionLimitExceeded"
    NO_PROGRESS = "NoProgress"
    FAILED_BY_RULE = "FailedByRule"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    # What keeps a pod from starting; nothing is retried blindly.
    INVALID_SPEC = "InvalidSpec"
    BUILDER_NOT_FOUND = "BuilderNotFound"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    IMAGE_NOT_PULLABLE = "ImageNotPullable"
    CONTAINER_NOT_CREATED = "ContainerNotCreated"
    CONTAINER_NOT_STARTED = "ContainerNotStarted"
    POD_REJECTED = "PodRejected"
    POD_NAME_TAKEN = "PodNameTaken"
    STATUS_REJECTED = "StatusRejected"
    DELETION_REJECTED = "DeletionRejected"
    FORK_SOURCE_NOT_FOUND = "ForkSourceNotFound"
    VOLUME_STILL_ATTACHED = "VolumeStillAttached"
    # Whether it moves on, and how much is at risk.
    BACK_OFF = "BackOff"
    NO_NEW_STEP = "NoNewStep"
    COMMITS_ON_TIME = "CommitsOnTime"
    COMMIT_OVERDUE = "CommitOverdue"
    NO_COMMIT_YET = "NoCommitYet"
    NOT_MEASURED = "NotMeasured"
    # What the trainer reports.
    BUILDER_INVALID = "BuilderInvalid"
    BUILDER_FAILED = "BuilderFailed"
    FUNCTION_NOT_FOUND = "FunctionNotFound"
    PARAMS_INVALID = "ParamsInvalid"
    PIPELINE_NOT_RESUMABLE = "PipelineNotResumable"
    FINGERPRINT_MISMATCH = "FingerprintMismatch"
    FINGERPRINT_CHANGED = "FingerprintChanged"
    POSITION_LOST = "PositionLost"
    POSITION_REGRESSED = "PositionRegressed"
    VOLUME_UNUSABLE = "VolumeUnusable"
    COMMIT_SKIPPED = "CommitSkipped"
    RESTORED = "Restored"
    COMMIT_NOT_FOUND = "CommitNotFound"
    COMMIT_DAMAGED = "CommitDamaged"


class ExitCode(IntEnum):
    """Exit codes of the trainer process.

    They avoid the shell's 126-165 and TensorFlow's own 42, so that a code from the
    user's program or from the kernel is never mistaken for one of these.
    """

    COMPLETED = 0
    USER_ERROR = 1
    PREEMPTED = 75
    """EX_TEMPFAIL of sysexits.h: asked to stop, committed, run me again."""
    SUPERSEDED = 76
    """A newer attempt owns the volume or the Lease; this one wrote nothing after it."""
    PERMANENT = 78
    """EX_CONFIG of sysexits.h: a retry cannot help; the termination message says why."""
