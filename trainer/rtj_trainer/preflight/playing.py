"""Is one of the two processes of a rehearsal (`rehearsal`): the one that is killed, or the next.

The first examines the pipeline as the trainer does before step 0, goes on for a while, writes down
the digest of each batch and saves the position now and then. The second begins anew, and at each
saved position for which there is time, and compares.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtj_trainer import startup
from rtj_trainer.preflight.rehearsal import Plan, answer, or_refusal

if TYPE_CHECKING:
    from rtj_trainer.pipeline import Pipeline, PipelineFactory
    from rtj_trainer.position import Position

_RECORDING_SHARE = 0.25
"""Part of the time for the first process; the second reads the same again from several places."""
_EPOCHS = 3
_FEWEST_BATCHES = 2
"""What is recorded whatever the time is: the first, at which the position is saved, and one more to
compare."""
_MARGIN = 1.1
"""How much longer than the ones before the next call of a function may take."""


class Calls:
    """Calls a function of the builder, and leaves word of it for who waits for this process.

    Args:
        function: Called without arguments.
        name: Of the function, for people.
        doing: File for the word.
    """

    def __init__(self, function: Callable[[], Any], name: str, doing: Path) -> None:
        self._function = function
        self._name = name
        self._doing = doing
        self._count = 0
        self.slowest = 0.0
        """Seconds that the longest call took."""
        self.seconds = 0.0
        """That all calls took."""

    def __call__(self) -> Any:
        """Return what the function does."""
        self._count += 1
        call = f"call {self._count} of {self._name}"
        self._doing.write_text(f"{call} had not ended")
        began = time.monotonic()
        result = self._function()
        took = time.monotonic() - began
        self.slowest = max(self.slowest, took)
        self.seconds += took
        self._doing.write_text(f"{call} had ended after {took:.0f} s")
        return result


def main(what: str, folder: Path) -> None:
    """Be one of the two processes."""
    began = time.monotonic()
    startup.begin_import()
    from rtj_trainer.environment import prepare_tensorflow

    prepare_tensorflow({})
    plan = Plan.model_validate_json((folder / "plan.json").read_text())
    if what == "record":
        (folder / "recorded.json").write_text(json.dumps(or_refusal(lambda: _record(plan, folder))))
    else:
        for compared in _compare(plan, folder, began):
            (folder / "compared.json").write_text(json.dumps(compared))


def _factory(plan: Plan, folder: Path) -> tuple["PipelineFactory", Calls]:
    from rtj_trainer import builder
    from rtj_trainer.cache.examples import ExamplesFactory
    from rtj_trainer.cache.sample import sample
    from rtj_trainer.pipeline import PipelineFactory, batches_of, dataset_function

    module, doing = builder.load_module(plan.builder), folder / "doing"
    calls = Calls(dataset_function(plan.builder, module), "datasetFunction", doing)
    if plan.cache is None:
        return PipelineFactory(calls, plan.seed, plan.epochs, plan.total_steps), calls
    examples = ExamplesFactory(calls, plan.seed)
    if not plan.batches:
        return examples, calls
    source = sample(examples, plan.cache, folder / "probe")
    calls = Calls(batches_of(source, plan.cache, plan.builder, module), "batchFunction", doing)
    return PipelineFactory(calls, plan.seed, _EPOCHS, None), calls


def _record(plan: Plan, folder: Path) -> dict[str, Any]:
    from rtj_trainer.batches import sha256_of

    factory, _ = _factory(plan, folder)
    pipeline = factory.pipeline(True, folder / "probe")
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


def _compare(plan: Plan, folder: Path, began: float) -> Iterator[dict[str, Any]]:
    """Yield the growing results: begun anew first, then from each position, as time allows.

    Args:
        plan: The same as that of the first process.
        folder: Has what that process left.
        began: When this process did.
    """
    recorded = answer(folder / "recorded.json")
    factory, calls = _factory(plan, folder)
    second = _Second(factory, calls, folder, recorded["batches"])
    to_read = plan.seconds - recorded["seconds"]
    results: list[dict[str, Any]] = []
    tasks = [0, *_most_telling_first(recorded["steps"], len(recorded["batches"]))]
    left_out: list[int] = []
    for number, step in enumerate(tasks):
        share = max(to_read - second.seconds_read, 0) / (len(tasks) - number)
        if number and time.monotonic() + second.seconds_to_start + share > began + plan.limit:
            left_out = tasks[number:]
            break
        results.append(second.go_on(step, share))
        yield {"results": results, "leftOut": None, "slowest": calls.slowest}
    yield {"results": results, "leftOut": left_out, "slowest": calls.slowest}


def _most_telling_first(steps: list[int], batches: int) -> list[int]:
    """Return the latest position first, but those last after which nothing is left to compare."""
    return sorted(steps, key=lambda step: (step < batches, step), reverse=True)


@dataclass
class _Second:
    """The process after the kill."""

    factory: "PipelineFactory"
    calls: Calls
    folder: Path
    expected: list[list[Any]]
    """Place and digest of each batch that the first process had."""
    seconds_read: float = 0
    """That were spent, but for those in the builder."""
    _slowest_start: float = 0
    """Longest time until a batch was compared, without that in the builder."""
    _pipeline: "Pipeline | None" = None

    @property
    def seconds_to_start(self) -> float:
        """How long it may take until a batch of the next position is compared."""
        return (self.calls.slowest + self._slowest_start) * _MARGIN

    def go_on(self, step: int, seconds: float) -> dict[str, Any]:
        """Return what came of going on from a saved position, or from the beginning at step 0.

        Args:
            step: Where to go on.
            seconds: To read; one batch is compared however long it takes.
        """
        from rtj_trainer.errors import UserError

        what = f"resumed at step {step}" if step else "begun anew in a fresh process"
        result: dict[str, Any] = {"what": what, "step": step, "wrong": ""}
        result |= {"compared": 0, "crossed": False}
        began, built = time.monotonic(), self.calls.seconds
        try:
            position = self._placed(step)
            (self.folder / "doing").write_text(f"{what}, it was reading")
            until = time.monotonic() + seconds
            if step:
                position.restore(self.folder / str(step))
            for _ in self._same(position, result):
                if result["compared"] == 1:
                    start = time.monotonic() - began - (self.calls.seconds - built)
                    self._slowest_start = max(self._slowest_start, start)
                if time.monotonic() > until:
                    break
        except (UserError, OSError):  # It may pass: see `rehearsal._PASSING`.
            raise
        except Exception as error:  # whatever TensorFlow or the builder raises is the answer
            result["wrong"] = f"{type(error).__name__}: {str(error)[:400]}"
        self.seconds_read += time.monotonic() - began - (self.calls.seconds - built)
        return result

    def _placed(self, step: int) -> "Position":
        """Return a position at a step, which a saved one can be read back into.

        It is that of a dataset that nobody has read from, as after a restart: the iterators of one
        dataset share its shuffles' generators and its caches' memories, and nobody knows what else
        where no test has proven an operation. So a second restore could be right only for what the
        first left, or wrong for it. Where the position is a number, `start` builds such a dataset.
        """
        if self._pipeline is None or self._pipeline.strategy.name != "index":
            self._pipeline = self.factory.pipeline(False, self.folder / "probe")
        position = self._pipeline.stream.position
        position.start(step)
        return position

    def _same(self, position: "Position", result: dict[str, Any]) -> Iterator[None]:
        """Note each batch that is as it was before, until one is not."""
        from rtj_trainer.batches import sha256_of

        for number in range(result["step"], len(self.expected)):
            batch = position.next()
            found = [batch.index, sha256_of(batch.element)] if batch else None
            if found != self.expected[number]:
                result["wrong"] = f"batch {number} was another than before"
                return
            result["compared"] += 1
            result["crossed"] |= number > result["step"] and self.expected[number][0] == 0
            yield


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
