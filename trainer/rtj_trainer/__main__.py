"""`python -m rtj_trainer`: run one attempt as the environment says, and end with a code that tells.

It reads `RTJ_CONFIG`, `RTJ_POD_UID`, `RTJ_TERMINATION_LOG` and `PYTHONHASHSEED`; without a Lease in
the configuration it runs anywhere. With arguments it is a tool instead:
`python -m rtj_trainer --help`.
"""

import argparse
import logging
import os
import sys

from rtj_api.names import ExitCode

from rtj_trainer import hash_seed, startup
from rtj_trainer.attempt import run_attempt
from rtj_trainer.process import TrainerProcess, read_config


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
    process = TrainerProcess()
    try:
        config = read_config()
        startup.begin_import()
        heart = process.begin(config)
        message = run_attempt(config, process.pod_uid, heart, process.stop)
    # The user's model, data or volume can raise anything, or call sys.exit().
    except (Exception, SystemExit) as error:
        return process.fail(error)
    return process.complete(message)


if __name__ == "__main__":
    hash_seed.give()
    if sys.argv[1:]:
        sys.exit(run_command(sys.argv[1:]))
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: a crash in a native destructor must not turn a completed job into a failed one.
    os._exit(code)
