"""A trainer process towards the outside: what it is told, its signals, its beat, its last word."""

import logging
import os
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError
from rtj_api.heartbeat import FinalRecord, Heartbeat, TrainerPhase
from rtj_api.launch import TrainerConfig
from rtj_api.names import (
    CONFIG_ENV,
    MAX_MESSAGE_LENGTH,
    POD_UID_ENV,
    TERMINATION_LOG_ENV,
    ExitCode,
    Reason,
)

from rtj_trainer.errors import PermanentError, StopError, SupersededError
from rtj_trainer.heartbeat import Heart
from rtj_trainer.lease import ApiError, ApiServer, Lease
from rtj_trainer.signals import StopRequest

TERMINATION_LOG = Path("/dev/termination-log")
_TRACE_CHARACTERS = 1500

log = logging.getLogger("rtj_trainer")


class TrainerProcess:
    """This process, from its first signal handler to its last word."""

    def __init__(self) -> None:
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout
        )
        logging.getLogger("absl").setLevel(logging.WARNING)
        self.pod_uid = os.environ.get(POD_UID_ENV, f"process-{os.getpid()}")
        self.stop = StopRequest()
        self.stop.install()
        self._heart: Heart | None = None

    def begin(self, config: TrainerConfig) -> Heart:
        """Begin to beat."""
        log.info("attempt %d of job %s, pod %s", config.attempt, config.job_name, self.pod_uid)
        self._heart = _make_heart(config, self.pod_uid)
        self._heart.start()
        return self._heart

    def complete(self, message: str) -> ExitCode:
        """Say that the job is complete."""
        return self._end(
            FinalRecord(
                exit_code=ExitCode.COMPLETED, reason=Reason.COMPLETED, message=f"job {message}"
            )
        )

    def fail(self, error: Exception | SystemExit) -> ExitCode:
        """Say why the process ends before the job does; called where the error is handled."""
        error = self.stop.raised or error
        if isinstance(error, StopError):
            return self._end(
                FinalRecord(
                    exit_code=error.exit_code,
                    reason=error.reason,
                    message=error.message[:MAX_MESSAGE_LENGTH],
                    newest_attempt=error.newest if isinstance(error, SupersededError) else None,
                )
            )
        log.exception("training failed")
        trace = traceback.format_exc()[-_TRACE_CHARACTERS:]
        return self._end(
            FinalRecord(
                exit_code=ExitCode.USER_ERROR,
                reason=Reason.TRAINER_FAILED,
                message=f"{type(error).__name__}: {str(error)[:400]}\n{trace}",
            )
        )

    def _end(self, final: FinalRecord) -> ExitCode:
        self.stop.ignore()
        _announce(final, self._heart)
        return ExitCode(final.exit_code)


def read_config() -> TrainerConfig:
    """Return the configuration from the environment.

    Raises:
        PermanentError: `InvalidSpec`: it is missing or not valid.
    """
    text = os.environ.get(CONFIG_ENV)
    if not text:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"the environment variable {CONFIG_ENV} is not set: the operator sets it in a job's "
            "pod. For the tools: python -m rtj_trainer --help",
        )
    try:
        return TrainerConfig.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PermanentError(
            Reason.INVALID_SPEC, f"{CONFIG_ENV}: {where}: {first['msg']} (got {first['input']!r})"
        ) from error


def _make_heart(config: TrainerConfig, pod_uid: str) -> Heart:
    first = Heartbeat(job_uid=config.job_uid, attempt=config.attempt, phase=TrainerPhase.STARTING)
    if config.lease is None:
        return Heart(first)
    where = config.lease
    try:
        server = ApiServer.in_cluster()
    except ApiError as error:
        log.warning("no heartbeat will be sent: %s", error)
        return Heart(first)
    lease = Lease(
        server,
        where.namespace,
        where.name,
        job_uid=config.job_uid,
        attempt=config.attempt,
        pod_uid=pod_uid,
    )
    return Heart(first, lease, where.interval_seconds)


def _announce(final: FinalRecord, heart: Heart | None) -> None:
    log.info("exit %d %s: %s", final.exit_code, final.reason, final.message)
    if heart:
        final = final.model_copy(update={"spent": heart.spent()})
    path = Path(os.environ.get(TERMINATION_LOG_ENV, TERMINATION_LOG))
    try:
        if path.exists():
            path.write_text(final.model_dump_json(by_alias=True))
    except OSError as error:
        log.warning("no termination message could be written: %s", error)
    if heart:
        heart.finish(final)
