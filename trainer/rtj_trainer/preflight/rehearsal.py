"""Plays a kill and a restart before the job: one process saves, a fresh one restores and compares.

The rules say which operations are exact; this shows it for one pipeline, whatever is in it. The
first process examines the pipeline as the trainer does before step 0, goes on for a while, writes
down the digest of each batch and saves the position now and then. The second begins anew, and at
each saved position, and compares. Both are children of the one that asks, so a crash or a hang of
TensorFlow is an answer too. They speak through files: `plan.json`, `recorded.json` and
`compared.json`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from rtj_api.launch import BuilderConfig
from rtj_api.names import ExitCode, Reason
from rtj_api.wire import WireModel

from rtj_trainer import startup

_RECORDING_SHARE = 0.25
"""Part of the time for the first process; the second reads the same again from several places."""
_START_SECONDS = 120
"""What a process may take beyond that: to import TensorFlow on a busy machine, to build the dataset
from a slow volume."""
_EPOCHS = 3
_FEWEST_BATCHES = 2
"""What is recorded whatever the time is: the first, at which the position is saved, and one more to
compare."""
_TOO_SLOW = "did not end"
_PASSING = ("died with signal 9", "ended with exit code", _TOO_SLOW)
"""Ends of the second process that say nothing of the dataset: no memory, a full disk, a builder
that raised, a volume that stalls. A wrong batch is in its results, and TensorFlow crashes with
other signals."""
LEFT = "ended with exit code 0 before it had done so (does the builder call sys.exit?)"
"""End of a process that says that it did its work, without the result of it."""


class Plan(WireModel):
    """What to rehearse."""

    builder: BuilderConfig
    seed: int
    epochs: int | None = None
    total_steps: int | None = None
    seconds: float = Field(gt=0)
    """For both processes together to read; what they do before does not count."""


@dataclass(frozen=True)
class Verdict:
    """What came of it."""

    exit_code: int
    """0: exact. Else the code that the trainer would end with."""
    message: str
    reason: Reason | None = None
    strategy: str = ""
    proven: bool = True
    """False if it could not be found out, for want of time or of a second batch."""
    unproven: tuple[str, ...] = ()
    """Operations that no test has proven, with the lines that made them; if a batch was wrong."""


def failed(answered: Any, purpose: str, ended: str) -> Verdict | None:
    """Return the verdict on a process that gave no answer, or a refusal; None if it did its work.

    Args:
        answered: What it gave, as `answer` returns it.
        purpose: What it was to do.
        ended: How it ended, as `run_apart` returns it.
    """
    if answered is None:
        return _unknown(purpose, ended or LEFT)
    if "refused" in answered:
        refused = answered["refused"]
        return Verdict(refused["exitCode"], refused["message"], Reason(refused["reason"]))
    return None


def _unknown(purpose: str, ended: str) -> Verdict:
    """Return the verdict on a process whose end says nothing of what it was to do."""
    message = f"the process that was to {purpose} {ended}"
    in_time = not ended.startswith(_TOO_SLOW)
    return Verdict(ExitCode.USER_ERROR, message, Reason.BUILDER_FAILED, proven=in_time)


def rehearse(plan: Plan, folder: Path) -> Verdict:
    """Rehearse a plan.

    Args:
        plan: Not changed.
        folder: Empty; for the saved positions, which can be as large as the pipeline's buffers.
    """
    (folder / "plan.json").write_text(plan.model_dump_json(by_alias=True))
    ended = run_apart(__name__, "record", folder, plan.seconds)
    recorded = answer(folder / "recorded.json")
    if verdict := failed(recorded, "read the dataset", ended):
        return verdict
    ended = run_apart(__name__, "compare", folder, plan.seconds)
    compared = answer(folder / "compared.json") or []
    if not ended and len(compared) <= len(recorded["steps"]):
        ended = LEFT
    wrong = [f"{found['what']}: {found['wrong']}" for found in compared if found["wrong"]]
    if ended.startswith(_PASSING) and not wrong:
        return _unknown("read the dataset again", ended)
    if ended:
        wrong.append(f"a fresh process that restored it {ended}")
    if wrong:
        message = f"the dataset cannot be resumed exactly: {'; '.join(wrong)}"
        return Verdict(
            ExitCode.PERMANENT,
            message,
            Reason.PIPELINE_NOT_RESUMABLE,
            recorded["strategy"],
            unproven=tuple(recorded["unproven"]),
        )
    return _success(recorded, compared)


def _success(recorded: dict[str, Any], compared: list[dict[str, Any]]) -> Verdict:
    batches = sum(found["compared"] for found in compared)
    steps = [str(found["step"]) for found in compared if found["step"] and found["compared"]]
    message = (
        f"position kept by {recorded['strategy']}, because {recorded['why']}; "
        f"{batches} batches compared in a fresh process, begun anew and resumed at step "
        f"{', '.join(sorted(steps, key=int)) or '(none)'}; "
    )
    if any(found["crossed"] for found in compared):
        message += "across the end of an epoch"
    else:
        message += "no end of an epoch was reached in the time given"
    return Verdict(ExitCode.COMPLETED, message, strategy=recorded["strategy"], proven=bool(steps))


def run_apart(module: str, what: str, folder: Path, seconds: float) -> str:
    """Run a module in a process; return how it ended if it did not do its work, else nothing.

    Args:
        module: Its full name.
        what: Its first argument.
        folder: Its second argument, by whose files it is told what to do and answers.
        seconds: For its work; its imports and the like do not count.
    """
    command = [sys.executable, "-m", module, what, str(folder)]
    try:
        # Input pipelines run on the CPU; an accelerator's memory is the trainer's.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(
            command, check=False, timeout=seconds + _START_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"{_TOO_SLOW} within {seconds + _START_SECONDS:.0f} s"
    if done.returncode < 0:
        return f"died with signal {-done.returncode}"
    return f"ended with exit code {done.returncode}" if done.returncode else ""


def answer(path: Path) -> Any:
    """Return what a process left in a file; None if there is none."""
    return json.loads(path.read_text()) if path.exists() else None


def main(what: str, folder: Path) -> None:
    """Be one of the two processes."""
    startup.begin_import()
    from rtj_trainer.environment import prepare_tensorflow

    prepare_tensorflow({})
    plan = Plan.model_validate_json((folder / "plan.json").read_text())
    if what == "record":
        (folder / "recorded.json").write_text(json.dumps(or_refusal(lambda: _record(plan, folder))))
    else:
        for result in _compare(plan, folder):
            (folder / "compared.json").write_text(json.dumps(result))


def _pipeline(plan: Plan, folder: Path, first_start: bool) -> Any:
    from rtj_trainer import builder
    from rtj_trainer.pipeline import PipelineFactory, dataset_function

    module = builder.load_module(plan.builder)
    build = dataset_function(plan.builder, module)
    factory = PipelineFactory(build, plan.seed, plan.epochs, plan.total_steps)
    return factory.pipeline(first_start, folder / "probe")


def or_refusal(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of some work, or why a trainer would end where it failed."""
    from rtj_trainer.errors import StopError, UserError

    try:
        return work()
    except StopError as error:
        stop = error
    except Exception as error:  # the user's data can raise anything
        stop = UserError(Reason.TRAINER_FAILED, f"{type(error).__name__}: {str(error)[:1000]}")
    refused = {"exitCode": stop.exit_code, "reason": stop.reason, "message": stop.message}
    return {"refused": refused}


def _record(plan: Plan, folder: Path) -> dict[str, Any]:
    from rtj_trainer.batches import sha256_of

    pipeline = _pipeline(plan, folder, first_start=True)
    began = time.monotonic()
    position, length = pipeline.stream.position, pipeline.strategy.batches_per_epoch
    position.start(0)
    batches: list[list[Any]] = []
    steps: list[int] = []
    until = began + plan.seconds * _RECORDING_SHARE
    while len(batches) < _FEWEST_BATCHES or time.monotonic() < until:
        batch = position.next()
        if batch is None:
            break
        if batch.index == 0 and batches and length is None:
            length = len(batches)
        batches.append([batch.index, sha256_of(batch.element)])
        step = len(batches)
        if length is not None and step > _EPOCHS * length:
            break
        if _is_saved(step, length):
            (folder / str(step)).mkdir()
            position.save(folder / str(step))
            steps.append(step)
    return {
        "strategy": pipeline.strategy.name,
        "why": pipeline.strategy.why,
        "unproven": pipeline.unproven,
        "batches": batches,
        "steps": steps,
        "seconds": time.monotonic() - began,
    }


def _is_saved(step: int, length: int | None) -> bool:
    """Return whether to save at a step: seldom, and where epochs end if that is known."""
    if length is None:
        return step in (1, 8, 64, 512, 4096)
    return step in (1, length // 2, length - 1, length, length + length // 2, 2 * length)


def _compare(plan: Plan, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the growing list of results: begun anew first, then from each position."""
    recorded = answer(folder / "recorded.json")
    begun = time.monotonic() - recorded["seconds"]
    results: list[dict[str, Any]] = []
    tasks = [0, *sorted(recorded["steps"], reverse=True)]
    for number, step in enumerate(tasks):
        left = max(begun + plan.seconds - time.monotonic(), 0)
        until = time.monotonic() + left / (len(tasks) - number)
        results.append(_go_on(plan, folder, step, recorded["batches"], until))
        yield results


def _go_on(
    plan: Plan, folder: Path, step: int, expected: list[list[Any]], until: float
) -> dict[str, Any]:
    from rtj_trainer.batches import sha256_of
    from rtj_trainer.errors import UserError

    what = f"resumed at step {step}" if step else "begun anew in a fresh process"
    result: dict[str, Any] = {"what": what, "step": step, "wrong": ""}
    result |= {"compared": 0, "crossed": False}
    try:
        position = _pipeline(plan, folder, first_start=False).stream.position
        position.start(step)
        if step:
            position.restore(folder / str(step))
        for number in range(step, len(expected)):
            batch = position.next()
            found = [batch.index, sha256_of(batch.element)] if batch else None
            if found != expected[number]:
                result["wrong"] = f"batch {number} was another than before"
                break
            result["compared"] += 1
            result["crossed"] |= number > step and expected[number][0] == 0
            if time.monotonic() > until:
                break
    except (UserError, OSError):  # It may pass: see _PASSING.
        raise
    except Exception as error:  # whatever TensorFlow or the builder raises is the answer
        result["wrong"] = f"{type(error).__name__}: {str(error)[:400]}"
    return result


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
