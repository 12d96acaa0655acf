"""`python -m rtj_trainer`: run one attempt as the environment says, and end with a code that tells.

Nothing is read but `RTJ_CONFIG` and `RTJ_POD_UID`; without a Lease in the configuration it runs
anywhere. With arguments it is a tool instead: `python -m rtj_trainer --help`.
"""

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError
from rtj_api.heartbeat import FinalRecord, Heartbeat, TrainerPhase
from rtj_api.launch import TrainerConfig
from rtj_api.names import CONFIG_ENV, POD_UID_ENV, ExitCode, Reason

from rtj_trainer import startup
from rtj_trainer.attempt import run_attempt
from rtj_trainer.errors import PermanentError, StopError
from rtj_trainer.heartbeat import Heart
from rtj_trainer.lease import ApiError, ApiServer, Lease
from rtj_trainer.signals import StopRequest

TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_LOG_ENV = "RTJ_TERMINATION_LOG"
_TRACE_CHARACTERS = 1500

log = logging.getLogger("rtj_trainer")


def read_config() -> TrainerConfig:
    """Return the configuration from the environment.

    Raises:
        PermanentError: `InvalidSpec`: it is missing or not valid.
    """
    text = os.environ.get(CONFIG_ENV)
    if not text:
        raise PermanentError(
            Reason.INVALID_SPEC, f"the environment variable {CONFIG_ENV} is not set"
        )
    try:
        return TrainerConfig.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PermanentError(
            Reason.INVALID_SPEC, f"{CONFIG_ENV}: {where}: {first['msg']} (got {first['input']!r})"
        ) from error


def run_command(arguments: list[str]) -> int:
    """Run one of the commands that need no cluster; return its exit code."""
    from rtj_trainer import inspection, verify

    parser = argparse.ArgumentParser(prog="python -m rtj_trainer")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    inspection.add_parsers(commands)
    verify.add_parser(commands)
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen))


def main() -> ExitCode:
    """Run the attempt, say how it ended wherever that can be told, and return the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout
    )
    logging.getLogger("absl").setLevel(logging.WARNING)
    stop = StopRequest()
    stop.install()
    heart: Heart | None = None
    try:
        config = read_config()
        pod_uid = os.environ.get(POD_UID_ENV, f"process-{os.getpid()}")
        startup.begin_import()
        log.info("attempt %d of job %s, pod %s", config.attempt, config.job_name, pod_uid)
        heart = _make_heart(config, pod_uid)
        heart.start()
        message = run_attempt(config, pod_uid, heart, stop)
        final = FinalRecord(
            exit_code=ExitCode.COMPLETED, reason=Reason.COMPLETED, message=f"job {message}"
        )
    except StopError as error:
        final = FinalRecord(
            exit_code=error.exit_code, reason=error.reason, message=error.message[:2048]
        )
    except Exception as error:  # the user's model, data or volume can raise anything
        log.exception("training failed")
        trace = traceback.format_exc()[-_TRACE_CHARACTERS:]
        final = FinalRecord(
            exit_code=ExitCode.USER_ERROR,
            reason=Reason.TRAINER_FAILED,
            message=f"{type(error).__name__}: {str(error)[:400]}\n{trace}",
        )
    stop.ignore()
    _announce(final, heart)
    return ExitCode(final.exit_code)


def _make_heart(config: TrainerConfig, pod_uid: str) -> Heart:
    first = Heartbeat(attempt=config.attempt, phase=TrainerPhase.STARTING)
    if config.lease is None:
        return Heart(first)
    where = config.lease
    try:
        server = ApiServer.in_cluster()
    except ApiError as error:
        log.warning("no heartbeat will be sent: %s", error)
        return Heart(first)
    lease = Lease(server, where.namespace, where.name, config.attempt, pod_uid)
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


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(run_command(sys.argv[1:]))
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: a crash in a native destructor must not turn a completed job into a failed one.
    os._exit(code)
