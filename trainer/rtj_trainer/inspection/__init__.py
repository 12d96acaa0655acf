"""What people ask of a volume: `inspect` says what is on it, `ledger check` what was trained on.

Both only read, need no cluster and no TensorFlow, and may look while a job is training.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from rtj_trainer.inspection import text
from rtj_trainer.inspection.survey import (
    JobReport,
    LedgerReport,
    check_ledger,
    find_jobs,
    inspect_job,
)

EXIT_WRONG = 1
"""Something that was looked at is damaged or wrong; what and where was printed."""
EXIT_NOT_PROVEN = 3
"""Nothing is wrong, but the builder gives ids of its own, and not each once. As of `verify`."""
EXIT_USAGE = 2
"""There was nothing to look at: the arguments are wrong. The same as argparse's."""


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of `python -m rtj_trainer`."""
    inspect = commands.add_parser(
        "inspect",
        help="list the jobs on a volume with their attempts, commits and ledger",
        description="List the jobs on a volume: attempts, commits (every byte is verified), sizes, "
        "the commit that the next attempt would go on from, and what the ledger holds. Exit code "
        f"{EXIT_WRONG} if anything is damaged.",
    )
    inspect.set_defaults(run=_run, report=inspect_job)
    ledger = commands.add_parser("ledger", help="check what a job was trained on")
    check = ledger.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "check",
        help="prove that each example was used exactly once per epoch",
        description="Prove that each example was used exactly once per epoch over all attempts of "
        f"a job, as far as its newest commit. Exit code {EXIT_WRONG}, with what is wrong and "
        f"where, if that is not so; {EXIT_NOT_PROVEN} if the builder gives ids of its own, and not "
        "each once, which may be meant.",
    )
    check.set_defaults(run=_run, report=partial(check_ledger, strict=True))
    for command in (inspect, check):
        command.add_argument(
            "folders",
            nargs="+",
            type=Path,
            metavar="FOLDER",
            help="the root of a volume, or the folder of one job, <volume>/<job uid>",
        )
        command.add_argument(
            "--output", choices=["text", "json"], default="text", help="default: %(default)s"
        )


def _run(options: argparse.Namespace) -> int:
    try:
        jobs = [job for folder in options.folders for job in find_jobs(folder)]
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    reports: list[JobReport | LedgerReport] = [options.report(job) for job in jobs]
    if options.output == "json":
        documents = [report.model_dump(mode="json", by_alias=True) for report in reports]
        sys.stdout.write(json.dumps({"jobs": documents}) + "\n")
    else:
        sys.stdout.write("\n".join(map(text.of, reports)) + "\n")
    if any(report.is_wrong for report in reports):
        return EXIT_WRONG
    doubts = (isinstance(report, LedgerReport) and report.doubt for report in reports)
    return EXIT_NOT_PROVEN if any(doubts) else 0
