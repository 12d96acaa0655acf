"""Whether each example was used exactly once per epoch, judged one epoch after the other.

The ids of all epochs of a job may not fit into the memory of a pod that looks at it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rtj_trainer.commits.manifest import Manifest
from rtj_trainer.ledger import Entry

_NO_IDS = "the pipeline yields no ids; wrap its elements in rtj_trainer.data.Tagged"


@dataclass
class Epoch:
    """What one epoch was trained on."""

    index: int
    steps_of: dict[int | str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Id -> the steps that it was in."""
    steps: int = 0
    unnamed: int = 0
    """How many of its steps have no ids."""
    is_last: bool = False

    @property
    def examples(self) -> int:
        """How many examples have an id, repeated ones counted each time."""
        return sum(map(len, self.steps_of.values()))

    def add(self, entry: Entry) -> None:
        """Add a step."""
        self.steps += 1
        self.unnamed += entry.ids is None
        for found in entry.ids or ():
            self.steps_of[found].append(entry.step)


def epochs_of(entries: Iterable[Entry]) -> Iterator[Epoch]:
    """Yield what each epoch of a trajectory was trained on, once it is known whether it ends."""
    epoch: Epoch | None = None
    for entry in entries:
        if epoch is None or epoch.index != entry.epoch:
            if epoch:
                yield epoch
            epoch = Epoch(entry.epoch)
        epoch.add(entry)
    if epoch:
        epoch.is_last = True
        yield epoch


def check_epoch(
    epoch: Epoch, expected: Collection[int | str], is_whole: bool, dropped: int = 0
) -> None:
    """Raise if an id is repeated or missing in an epoch.

    Args:
        epoch: From `epochs_of`.
        expected: The ids that an epoch draws from.
        is_whole: Whether it may not lack any; False for the last of a job that still runs, or
            that ends after a number of steps.
        dropped: How many of them it leaves out.

    Raises:
        ValueError: names the epoch, an id that is repeated, missing or unexpected, and its steps.
    """
    name, steps_of, known = f"epoch {epoch.index}", epoch.steps_of, set(expected)
    repeated = next((found for found, at in steps_of.items() if len(at) > 1), None)
    if repeated is not None:
        at = steps_of[repeated]
        raise ValueError(f"{name} has id {repeated} {len(at)} times, at steps {at[:9]}")
    added = sorted(steps_of.keys() - known, key=repr)
    if added:
        where = steps_of[added[0]][0]
        raise ValueError(f"{name} adds {len(added)} ids, as {added[0]} at step {where}")
    lacking = sorted(known - steps_of.keys(), key=repr)
    if len(lacking) < dropped:
        raise ValueError(f"{name} lacks {len(lacking)} ids, but it drops {dropped}")
    if len(lacking) > dropped and is_whole:
        but = f", but it drops {dropped} only" if dropped else ""
        raise ValueError(f"{name} lacks {len(lacking)} ids, as {lacking[0]}{but}")


def check_epochs(entries: Iterable[Entry], manifest: Manifest, strict: bool) -> dict[str, Any]:
    """Return what a `LedgerReport` says of the steps up to a commit.

    All steps are read, whatever is found: only then is it known whether they are those committed.

    Args:
        entries: The trajectory of the commit.
        manifest: Its manifest.
        strict: Whether it is a problem if the pipeline names no examples.
    """
    judge = _Judge(manifest)
    for epoch in epochs_of(entries):
        judge.look_at(epoch)
        del epoch  # The next one may be as large.
    return judge.report(strict)


class _Judge:
    def __init__(self, manifest: Manifest) -> None:
        cut = manifest.stopped_early or manifest.target.get("totalSteps") is not None
        self._whole = manifest.complete and not cut
        self._size, self._cutting = manifest.epoch_size, manifest.cutting
        self._by_place = self._size is not None and self._size.ids_are_places
        self._steps, self._unnamed = 0, 0
        self._counts: dict[int, int] = {}
        self._wrong: str | None = None
        self._known: set[int | str] = set()
        """The ids of an epoch: of its source, or else of the first epoch."""
        if self._size and self._by_place:
            self._known = set(range(self._size.examples))

    def look_at(self, epoch: Epoch) -> None:
        self._steps += epoch.steps
        self._unnamed += epoch.unnamed
        if not self._wrong:
            try:
                self._check(epoch)
            except ValueError as error:
                self._wrong = str(error)
        self._counts[epoch.index] = epoch.examples

    def report(self, strict: bool) -> dict[str, Any]:
        steps = {"steps": self._steps}
        if self._unnamed == self._steps and not strict:
            return steps
        if self._unnamed:
            return {**steps, "problem": _NO_IDS}
        if self._wrong and self._by_place:
            return {**steps, "problem": self._wrong}
        return {**steps, "examples_per_epoch": self._counts, "doubt": self._wrong}

    def _check(self, epoch: Epoch) -> None:
        if epoch.index in self._counts:
            raise ValueError(f"epoch {epoch.index} goes on after another has begun")
        is_whole = self._whole or not epoch.is_last
        if self._by_place:
            check_epoch(epoch, self._known, is_whole, self._dropped(epoch))
        elif self._size:
            self._check_number(epoch, self._size.examples - self._dropped(epoch), is_whole)
        else:
            self._known = self._known or set(epoch.steps_of)
            check_epoch(epoch, self._known, is_whole)

    def _dropped(self, epoch: Epoch) -> int:
        if self._cutting:
            return self._cutting.dropped(epoch.index)
        return self._size.dropped if self._size else 0

    @staticmethod
    def _check_number(epoch: Epoch, examples: int, is_whole: bool) -> None:
        found, wanted = len(epoch.steps_of), examples if is_whole else epoch.examples
        if found != wanted:
            raise ValueError(f"epoch {epoch.index} has {found} different ids instead of {wanted}")
