"""The ways a trainer can stop early, each with the exit code that tells the operator what to do."""

from rtj_api.names import ExitCode, Reason


class StopError(Exception):
    """Base of every planned end but completion.

    `message` is for the user: it names what is wrong, the value, and what to do.
    """

    exit_code: ExitCode

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class PermanentError(StopError):
    """A retry cannot help: the user has to change something first."""

    exit_code = ExitCode.PERMANENT


class UserError(StopError):
    """The user's program or volume failed in a way that may pass; retried up to backoffLimit."""

    exit_code = ExitCode.USER_ERROR


class SupersededError(StopError):
    """A newer attempt exists. Nothing may be written after this was raised.

    `newest` is its number, if the volume tells.
    """

    exit_code = ExitCode.SUPERSEDED

    def __init__(self, message: str, newest: int | None = None) -> None:
        super().__init__(Reason.SUPERSEDED, message)
        self.newest = newest


class PreemptedError(StopError):
    """SIGTERM was received; everything that has to be durable is."""

    exit_code = ExitCode.PREEMPTED

    def __init__(self, message: str) -> None:
        super().__init__(Reason.TRAINER_PREEMPTED, message)
