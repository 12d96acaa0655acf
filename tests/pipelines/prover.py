"""Records positions of pipelines, or restores them; one process does one of both.

It answers requests, one JSON object a line, so that TensorFlow is imported once for many pipelines.
Two of these make the proof: what one saved, the other restores in a pipeline that it builds anew.
The dataset is built, examined and placed by the trainer's own code.
"""

import json
import os
import sys
import time
from collections.abc import Container, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from rtj_api.launch import BuilderConfig
from rtj_trainer import builder, startup
from rtj_trainer.environment import prepare_tensorflow
from rtj_trainer.errors import PermanentError

from tests.pipelines.files import write_tensorflow_files

BUILDERS = Path(__file__).parent / "builders"
EPOCHS = 3
ENDLESS_STEPS = 24
SEED = 7
PAUSE_SECONDS = 0.05
"""In which whatever reads ahead goes on as far as it can."""


class Run:
    """A pipeline as one process of a job sees it."""

    def __init__(self, request: dict[str, Any], first_start: bool) -> None:
        from rtj_trainer.pipeline import PipelineFactory, dataset_function

        spec = BuilderConfig(
            path=BUILDERS,
            module=request["module"],
            dataset_function=request["function"],
            dataset_params=request["params"],
            model_function="",
            model_params={},
        )
        epochs = None if request["endless"] else EPOCHS
        total = ENDLESS_STEPS if request["endless"] else None
        build = dataset_function(spec, builder.load_module(spec))
        self.dataset: Any = None

        def remembering() -> Any:
            dataset = build()
            self.dataset = dataset if self.dataset is None else self.dataset
            return dataset

        factory = PipelineFactory(remembering, SEED, epochs, total)
        self.pipeline = factory.pipeline(first_start, Path(request["folder"]) / "scratch")
        self.position = self.pipeline.stream.position
        length = self.pipeline.strategy.batches_per_epoch
        self.total = total or (length * EPOCHS if length else None)

    def batches(self, step: int, pauses: Container[int] = ()) -> Iterator[list[Any]]:
        """Yield place and digest of each batch from a step to the end of the job.

        Args:
            step: Where to begin.
            pauses: After which batches to pause.
        """
        from rtj_trainer.batches import sha256_of

        while self.total is None or step < self.total:
            batch = self.position.next()
            if batch is None:
                return
            yield [batch.index, sha256_of(batch.element)]
            if step in pauses:
                time.sleep(PAUSE_SECONDS)
            step += 1


def record(request: dict[str, Any]) -> dict[str, Any]:
    """Return the trainer's verdict; if it accepts, write the reference and the positions."""
    folder = Path(request["folder"])
    try:
        reference = Run(request, first_start=True)
    except PermanentError as error:
        return {"refused": error.message, "reason": error.reason}
    reference.position.start(0)
    expected = list(reference.batches(0))
    epochs = _epochs(expected)
    steps = _steps(epochs, request["every"])
    run = Run(request, first_start=False)
    run.position.start(0)
    stream = run.batches(0)
    taken: list[Any] = []
    for step in steps:
        taken += [next(stream) for _ in range(step - len(taken))]
        (folder / str(step)).mkdir()
        run.position.save(folder / str(step))
    reference_file = {
        "expected": expected,
        "steps": steps,
        "again": sum(epochs[-1]) // 2,
        "identity": reference.pipeline.identity,
    }
    (folder / "reference.json").write_text(json.dumps(reference_file))
    strategy = reference.pipeline.strategy
    return {
        "strategy": strategy.name,
        "why": strategy.why,
        "unproven": reference.pipeline.unproven,
        "operations": _operations(reference) if request["listing"] else [],
        "wrong": _miscounted(request, reference, expected)
        or _hurried(request, reference, expected)
        or ("" if taken == expected[: len(taken)] else "saving disturbed the run that saved"),
    }


def _miscounted(request: dict[str, Any], run: Run, expected: list[Any]) -> str:
    """Return how the run differs from the epochs that were asked for, as its batches tell."""
    starts = _starts(expected)
    if not request["endless"] and len(starts) != EPOCHS:
        return f"it had {len(starts)} epochs instead of {EPOCHS}"
    told = run.pipeline.strategy.batches_per_epoch
    lengths = {end - start for start, end in pairwise([*starts, len(expected)])}
    return f"epochs had {lengths} batches instead of {told}" if told and lengths != {told} else ""


def _hurried(request: dict[str, Any], run: Run, expected: list[Any]) -> str:
    """Return how a run differs whose batches are waited for, or nothing."""
    from rtj_trainer.preflight import randomness, reshuffling

    graph = _graph(run)
    if not randomness.draws(graph) and not reshuffling.places(graph):
        return ""  # It has no state that could have gone further.
    slow = Run(request, first_start=False)
    slow.position.start(0)
    starts = _starts(expected)
    # What is read ahead in the last epoch would have been in those before, too.
    found = list(slow.batches(0, pauses=starts[:-1] or starts))
    return "" if found == expected else "it depends on how fast it is read"


def _starts(expected: list[Any]) -> list[int]:
    """Return which batches are the first of an epoch."""
    return [step for step, (index, _) in enumerate(expected) if index == 0]


def _operations(run: Run) -> list[str]:
    """Return the dataset operations of a pipeline."""
    return sorted(name for name in _graph(run).operations() if "Dataset" in name)


def _graph(run: Run) -> Any:
    from rtj_trainer.preflight.graph import read_graph

    return read_graph(run.dataset)


def restore(request: dict[str, Any]) -> dict[str, Any]:
    """Go on from each position; the first run saves again on its way, for one more."""
    folder = Path(request["folder"])
    reference = json.loads((folder / "reference.json").read_text())
    expected, steps = reference["expected"], reference["steps"]
    again = reference["again"]
    (folder / "again").mkdir()
    tasks = [(step, folder / str(step)) for step in steps]
    for step, saved in [*tasks, (again, folder / "again")]:
        run = Run(request, first_start=False)
        if run.pipeline.identity != reference["identity"]:
            return {"wrong": "another fingerprint in another process"}
        run.position.start(step)
        run.position.restore(saved)
        wrong = _go_on(run, step, expected, again if step == steps[0] else None, folder / "again")
        if wrong:
            return {"wrong": f"restored {saved.name} of {len(expected)}: {wrong}"}
    return {"wrong": ""}


def _go_on(run: Run, step: int, expected: list[Any], save_at: int | None, folder: Path) -> str:
    """Return how a restored run differs, or nothing."""
    for number, batch in enumerate(run.batches(step), start=step):
        if number >= len(expected):
            return "it went on after the end"
        if batch != expected[number]:
            return f"batch {number} is another: {batch} instead of {expected[number]}"
        step = number + 1
        if step == save_at:
            run.position.save(folder)
    return "" if step == len(expected) else f"it ended after {step} batches"


def _epochs(expected: list[Any]) -> list[tuple[int, int]]:
    """Return where the first, a middle and the last epoch begin and end."""
    starts = _starts(expected)
    ends = [*starts[1:], len(expected)]
    last = len(starts) - 1
    return [(starts[number], ends[number]) for number in (0, last // 2, last)]


def _steps(epochs: list[tuple[int, int]], every: bool) -> list[int]:
    """Return where to save; the last epoch has one more that a restored run saves (`restore`)."""
    if every:
        return sorted({step for start, end in epochs for step in range(start + 1, end + 1)})
    (first, first_end), (middle, middle_end), _ = epochs
    return sorted({first + 1, first_end, max(middle_end - 1, middle + 1)})


def main() -> None:
    """Answer each request on standard input."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # TensorFlow and Keras print
    startup.begin_import()
    prepare_tensorflow({})
    answers = {"record": record, "restore": restore}
    print("{}", file=channel, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "files":
                write_tensorflow_files(Path(request["folder"]))
                answer: dict[str, Any] = {}
            else:
                answer = answers[request["do"]](request)
        except Exception as error:  # the answer of a test that fails
            import traceback

            answer = {"wrong": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        print(json.dumps(answer), file=channel, flush=True)


if __name__ == "__main__":
    main()
