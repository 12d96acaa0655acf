"""`python -m rtj_trainer verify builder.py`: will this dataset resume? Asked without a cluster."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rtj_api.builder import Builder
from rtj_api.launch import BuilderConfig
from rtj_api.names import ExitCode

from rtj_trainer.preflight.building import build
from rtj_trainer.preflight.rehearsal import Plan, Verdict, rehearse

_DESCRIPTION = """\
Tell whether a builder's dataset can be resumed exactly, without a cluster.

With the name of a model's, callbacks' or validation's function, these are looked at first, as a job
does before its first step: the training step is traced, and on_train_begin of callbacks is called.
"""
_EXIT_CODES = """\
The verdict is on the last line, and in the exit code:

0   exact
1   the builder or its data failed
2   the command is wrong: no such file, parameters that are no JSON object
3   there was no time to find out; give more by --time-budget-seconds
78  refused: it cannot be resumed exactly, or the builder does not fit its parameters
"""
NOT_PROVEN = 3
_OF_JOB = Builder()
"""What a job has that names no function."""
_OTHERS = ("model", "callbacks", "validation")
"""Functions that are looked at if one of them is named."""
_SEED = 0
_LARGEST_SEED = 2**31 - 1
_SECONDS = 60.0


def add_parser(commands: Any) -> None:
    """Add the command to those of `python -m rtj_trainer`."""
    parser = commands.add_parser(
        "verify",
        help="tell whether a builder's dataset can be resumed exactly, without a cluster",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("builder", type=_file, metavar="builder.py", help="the builder module")
    parser.add_argument(
        "--params",
        type=_object,
        default={},
        metavar="JSON",
        help='datasetParams, such as \'{"path": "data.csv"}\'',
    )
    default = _OF_JOB.dataset_function
    parser.add_argument(
        "--function", default=default, metavar="NAME", help=f"datasetFunction; default: {default}"
    )
    for kind in _OTHERS:
        parser.add_argument(f"--{kind}-function", metavar="NAME", help=f"{kind}Function")
        parser.add_argument(
            f"--{kind}-params", type=_object, default={}, metavar="JSON", help=f"{kind}Params"
        )
    parser.add_argument(
        "--seed", type=_seed, default=_SEED, metavar="NUMBER", help=f"default: {_SEED}"
    )
    parser.add_argument(
        "--time-budget-seconds",
        type=_positive,
        default=_SECONDS,
        metavar="SECONDS",
        help=f"for reading and comparing; starting Python comes on top; default: {_SECONDS:.0f}",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify, print the verdict, return the exit code."""
    plan = Plan(
        builder=BuilderConfig(
            path=arguments.builder.parent,
            module=arguments.builder.stem,
            dataset_function=arguments.function,
            dataset_params=arguments.params,
            model_function=arguments.model_function or _OF_JOB.model_function,
            model_params=arguments.model_params,
            callbacks_function=arguments.callbacks_function,
            callbacks_params=arguments.callbacks_params,
            validation_function=arguments.validation_function,
            validation_params=arguments.validation_params,
        ),
        seed=arguments.seed,
        seconds=arguments.time_budget_seconds,
    )
    others = any(getattr(arguments, f"{kind}_function") for kind in _OTHERS)
    code, text = _judge(_verdict(plan, others))
    sys.stdout.write(" ".join(text.split()) + "\n")
    return code


def _verdict(plan: Plan, others: bool) -> Verdict:
    """Return that of the dataset, or that of the other functions if it is not good."""
    for ask in (build, rehearse) if others else (rehearse,):
        with tempfile.TemporaryDirectory(prefix="rtj-verify-") as folder:
            verdict = ask(plan, Path(folder))
        if verdict.exit_code:
            break
    return verdict


def _judge(verdict: Verdict) -> tuple[int, str]:
    if not verdict.proven:
        return NOT_PROVEN, f"not proven: {verdict.message}; give more --time-budget-seconds"
    if verdict.exit_code == ExitCode.COMPLETED:
        return 0, f"exact: {verdict.message}"
    word = "refused" if verdict.exit_code == ExitCode.PERMANENT else "failed"
    names = "; ".join(verdict.unproven)
    unproven = f" (no test has proven {names})" if names else ""
    return verdict.exit_code, f"{word}: {verdict.message}{unproven}"


def _file(text: str) -> Path:
    path = Path(text).absolute()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise argparse.ArgumentTypeError(f"{path.name} is not the name of a Python module")
    return path


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is not a JSON object, as {{"size": 10}} is')
    return value


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {_LARGEST_SEED}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value
