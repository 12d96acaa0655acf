"""Plays a kill and a restart before the job: one process saves, a fresh one restores and compares.

The rules say which operations are exact; this shows it for one pipeline, whatever is in it. Both
processes (`playing`) are children of the one that asks, so a crash or a hang of TensorFlow is an
answer too. They speak through files: `plan.json`, `recorded.json`, `compared.json`, and `doing`,
which says what was under way if one did not end.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from rtj_api.dataset import DatasetCache
from rtj_api.launch import BuilderConfig
from rtj_api.names import ExitCode, Reason
from rtj_api.wire import WireModel

_PLAYING = "rtj_trainer.preflight.playing"
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
    cache: DatasetCache | None = None
    """None if the dataset function runs in every epoch, else its examples are what is rehearsed."""
    batches: bool = False
    """Rehearse what becomes of the first of the cached examples, instead."""
    seconds: float = Field(gt=0)
    """For both processes together to read; what they do before does not count."""
    start_seconds: float = 120
    """What a process may take beyond that: to import TensorFlow on a busy machine, to build the
    dataset from a slow volume."""

    @property
    def subject(self) -> str:
        """What is rehearsed, for people."""
        return "what batchFunction makes of the cache" if self.batches else "the dataset"

    @property
    def limit(self) -> float:
        """Seconds after which a process is ended."""
        return self.seconds + self.start_seconds


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
    ended = run_apart(_PLAYING, "record", folder, plan)
    recorded = answer(folder / "recorded.json")
    if verdict := failed(recorded, "read the dataset", ended):
        return verdict
    ended = run_apart(_PLAYING, "compare", folder, plan)
    compared = answer(folder / "compared.json") or {"results": [], "leftOut": None}
    results = compared["results"]
    if not ended and compared["leftOut"] is None:
        ended = LEFT
    wrong = [f"{found['what']}: {found['wrong']}" for found in results if found["wrong"]]
    if ended.startswith(_PASSING) and not wrong:
        return _unknown("read the dataset again", ended)
    if ended:
        wrong.append(f"a fresh process that restored it {ended}")
    if wrong:
        message = f"{plan.subject} cannot be resumed exactly: {'; '.join(wrong)}"
        return Verdict(
            ExitCode.PERMANENT,
            message,
            Reason.PIPELINE_NOT_RESUMABLE,
            recorded["strategy"],
            unproven=tuple(recorded["unproven"]),
        )
    return _unbroken(plan, recorded, compared)


def _unbroken(plan: Plan, recorded: dict[str, Any], compared: dict[str, Any]) -> Verdict:
    """Return the verdict where every batch that there was time for was the same."""
    results, missing = compared["results"], _missing(plan, compared)
    batches = sum(found["compared"] for found in results)
    steps = [str(found["step"]) for found in results if found["step"] and found["compared"]]
    if missing and not steps:
        message = f"no saved position was tried; {missing}"
        return Verdict(ExitCode.USER_ERROR, message, Reason.BUILDER_FAILED, proven=False)
    message = (
        f"position kept by {recorded['strategy']}, because {recorded['why']}; "
        f"{batches} batches compared in a fresh process, begun anew and resumed at step "
        f"{', '.join(sorted(steps, key=int)) or '(none)'}; "
    )
    if any(found["crossed"] for found in results):
        message += "across the end of an epoch"
    elif plan.cache and not plan.batches:
        message += "within the one epoch in which a cache is written"
    else:
        message += "no end of an epoch was reached in the time given"
    message = "; ".join(filter(None, [message, missing]))
    return Verdict(ExitCode.COMPLETED, message, strategy=recorded["strategy"], proven=bool(steps))


def _missing(plan: Plan, compared: dict[str, Any]) -> str:
    """Return which positions there was no time for, and why; nothing if there was for all."""
    if not compared["leftOut"]:
        return ""
    return (
        f"not resumed at step {', '.join(map(str, sorted(compared['leftOut'])))}: there was no "
        f"time to build the dataset and read it once more, of the {plan.limit:.0f} s that a "
        f"process has; building took up to {compared['slowest']:.0f} s"
    )


def run_apart(module: str, what: str, folder: Path, plan: Plan) -> str:
    """Run a module in a process; return how it ended if it did not do its work, else nothing.

    Args:
        module: Its full name.
        what: Its first argument.
        folder: Its second argument, by whose files it is told what to do and answers.
        plan: Says how long it may take.
    """
    doing = folder / "doing"
    doing.unlink(missing_ok=True)
    command = [sys.executable, "-m", module, what, str(folder)]
    try:
        # Input pipelines run on the CPU; an accelerator's memory is the trainer's.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(command, check=False, timeout=plan.limit, env=environment)
    except subprocess.TimeoutExpired:
        last = f": {doing.read_text()}" if doing.exists() else ""
        return f"{_TOO_SLOW} within {plan.limit:.0f} s{last}"
    if done.returncode < 0:
        return f"died with signal {-done.returncode}"
    return f"ended with exit code {done.returncode}" if done.returncode else ""


def answer(path: Path) -> Any:
    """Return what a process left in a file; None if there is none."""
    return json.loads(path.read_text()) if path.exists() else None


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
