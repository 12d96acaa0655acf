"""`python -m rtj_trainer verify builder.py`: will this dataset resume? Asked without a cluster."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rtj_api.builder import Builder
from rtj_api.dataset import DatasetCache
from rtj_api.launch import BuilderConfig
from rtj_api.names import ExitCode

from rtj_trainer.preflight.building import build
from rtj_trainer.preflight.rehearsal import Plan, Verdict, rehearse

_DESCRIPTION = """\
Tell whether a builder's dataset can be resumed exactly, without a cluster.

With the name of a model's, callbacks' or validation's function, these are looked at first, as a job
does before its first step: the training step is traced, and on_train_begin of callbacks is called.

With spec.dataset.cache the dataset's examples are asked about, each of which would be written once,
and with a batchFunction what it makes of the first of them. Nothing is kept.
"""
_EXIT_CODES = """\
The verdict is on the last line, and in the exit code:

0   exact
1   the builder or its data failed
2   the command is wrong: no such file, parameters that are no JSON object, no such cache
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
    parser.add_argument(
        "--dataset-cache",
        type=_cache,
        metavar="JSON",
        help="spec.dataset.cache, such as '{\"batchSize\": 32}'",
    )
    for kind in ("batch", *_OTHERS):
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
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Verify, print the verdict, return the exit code."""
    if arguments.batch_function and not arguments.dataset_cache:
        arguments.refuse("--batch-function is given batches of a cache: give --dataset-cache, too")
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
            batch_function=arguments.batch_function,
            batch_params=arguments.batch_params,
        ),
        cache=arguments.dataset_cache,
        seed=arguments.seed,
        seconds=arguments.time_budget_seconds,
    )
    others = any(getattr(arguments, f"{kind}_function") for kind in _OTHERS)
    code, text = _judge(_verdict(plan, others))
    sys.stdout.write(" ".join(text.split()) + "\n")
    return code


def _verdict(plan: Plan, others: bool) -> Verdict:
    """Return the first verdict that is not good, else that of the dataset and its batches."""
    asked: list[Callable[[Path], Verdict]] = [partial(rehearse, plan)]
    if others:
        asked.insert(0, partial(build, plan))
    if plan.builder.batch_function:
        asked.append(partial(rehearse, plan.model_copy(update={"batches": True})))
    messages = []
    for ask in asked:
        with tempfile.TemporaryDirectory(prefix="rtj-verify-") as folder:
            verdict = ask(Path(folder))
        if verdict.exit_code or not verdict.proven:
            return verdict
        messages.append(verdict.message)
    return replace(verdict, message="; batchFunction: ".join(filter(None, messages)))


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


def _cache(text: str) -> DatasetCache:
    value = _object(text)
    if unknown := value.keys() - {field.alias for field in DatasetCache.model_fields.values()}:
        raise argparse.ArgumentTypeError(f"spec.dataset.cache has no {', '.join(sorted(unknown))}")
    try:
        return DatasetCache.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise argparse.ArgumentTypeError(f"spec.dataset.cache.{name}: {first['msg']}") from error


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
