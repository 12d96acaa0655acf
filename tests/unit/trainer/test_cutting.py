"""Batches of a size that changes: each example once per epoch, and lengths that are true.

What `Cutting` computes is compared with batches that are cut one by one.
"""

import random
from datetime import UTC, datetime
from itertools import chain

import numpy as np
import pytest
import tensorflow as tf
from rtj_trainer import data
from rtj_trainer.commits.manifest import Manifest
from rtj_trainer.cutting import Cutting
from rtj_trainer.data import IndexedContext, indexed, indexed_context
from rtj_trainer.data.indexing import IndexedSource
from rtj_trainer.progress import Progress

pytestmark = pytest.mark.unit

SEED = 3


def cut_one_by_one(cutting: Cutting, until: int) -> list[tuple[int, int, list[int]]]:
    """Return epoch, place in it and positions of each batch, in the plainest way."""
    sizes = {cut.step: cut.batch_size for cut in cutting.cuts}
    found: list[tuple[int, int, list[int]]] = []
    epoch, index, taken, size = 0, 0, 0, 0
    while len(found) < until:
        left = cutting.size - taken
        # What was over with the old size stays over.
        if size and (left == 0 or (cutting.drop_remainder and left < size)):
            epoch, index, taken, left = epoch + 1, 0, 0, cutting.size
        size = sizes.get(len(found), size)
        if cutting.drop_remainder and left < size:
            epoch, index, taken, left = epoch + 1, 0, 0, cutting.size
        found.append((epoch, index, list(range(taken, taken + min(size, left)))))
        index, taken = index + 1, taken + min(size, left)
    return found


def random_cutting(chance: random.Random) -> Cutting:
    size = chance.randint(1, 40)
    cutting = Cutting.even(size, chance.randint(1, size), chance.random() < 0.5)
    step = 0
    for _ in range(chance.randint(0, 3)):
        step += chance.randint(0 if step else 1, 15)
        cutting = cutting.changed(step, chance.randint(1, size))
    return cutting


@pytest.mark.parametrize("many", range(3))
def test_lengths_are_those_of_batches_that_are_cut_one_by_one(many: int) -> None:
    chance = random.Random(many)  # noqa: S311 - no secret
    for _ in range(100):
        compare(random_cutting(chance))


def compare(cutting: Cutting) -> None:
    last = cutting.cuts[-1].step
    batches = cut_one_by_one(cutting, last + 90)
    for epoch in range(batches[-1][0]):
        own = [positions for number, _, positions in batches if number == epoch]
        assert cutting.length(epoch) == len(own)
        assert cutting.end(epoch + 1) == sum(number <= epoch for number, _, _ in batches)
        taken = list(chain.from_iterable(own))
        assert taken == list(range(cutting.size - cutting.dropped(epoch)))
    assert [cutting.index(step) for step in range(last, last + 90)] == [
        index for _, index, _ in batches[last:]
    ]


@pytest.mark.parametrize("seed", range(8))
def test_a_dataset_begins_at_any_batch_after_a_change(seed: int) -> None:
    cutting = random_cutting(random.Random(seed))  # noqa: S311 - no secret
    last = cutting.cuts[-1].step
    batches = cut_one_by_one(cutting, last + 20)
    whole = IndexedSource(Cutting.even(cutting.size, cutting.size, False), shuffle=True)
    orders = [whole.places(epoch, SEED).numpy().tolist() for epoch in range(batches[-1][0] + 1)]
    start = last + seed
    context = IndexedContext(SEED, start=start, stop=last + 20, cutting=cutting)
    with indexed_context(context):
        dataset = indexed(cutting.size, 1, drop_remainder=cutting.drop_remainder)
    assert [found.numpy().tolist() for found in dataset] == [
        [orders[epoch][position] for position in positions]
        for epoch, _, positions in batches[start:]
    ]
    shape = dataset.element_spec.shape
    assert shape == tf.TensorShape([cutting.batch_size if cutting.is_even else None])


def test_an_epoch_that_was_over_with_the_old_size_stays_over() -> None:
    twelve = Cutting.even(100, 8, drop_remainder=True)
    assert twelve.changed(12, 2).length(0) == 12
    assert twelve.changed(12, 2).dropped(0) == 4
    assert twelve.changed(11, 2).length(0) == 11 + 6
    assert twelve.changed(11, 2).dropped(0) == 0
    assert twelve.changed(11, 20).length(0) == 11
    assert twelve.changed(11, 20).dropped(0) == 12


def test_progress_counts_an_epoch_only_when_it_is_over() -> None:
    cutting = Cutting.even(100, 8, drop_remainder=False).changed(17, 20)
    progress = Progress(lengths=cutting, step=17, epoch=1, step_in_epoch=4)
    told = []
    while progress.step < cutting.end(3):
        if progress.step_in_epoch == cutting.length(progress.epoch):
            progress.begin_epoch()
        progress.count(20)
        told.append(progress.wire().epoch)
    assert told == [1, 1, 1, 2, 2, 2, 2, 2, 3]


def test_the_length_of_past_epochs_is_not_guessed_from_a_commit_after_a_change() -> None:
    # Epochs of 4, 7 and 10 batches: 5 are half of the third, and those before have 5 on average.
    cutting = Cutting.even(100, 25, drop_remainder=False).changed(6, 10)
    manifest = Manifest(
        step=16,
        epoch=2,
        step_in_epoch=5,
        samples=0,
        attempt=1,
        parent=None,
        time=datetime(2026, 5, 4, tzinfo=UTC),
        strategy="index",
        fingerprint={},
        cutting=cutting,
        ledger_hash="",
        state_sha256="",
        target={},
    )
    for known, finished in ((cutting, 2), (None, 3)):
        progress = Progress()
        progress.restore(manifest.model_copy(update={"cutting": known}))
        assert progress.finished_epochs == finished


@pytest.mark.parametrize("kind", ["mixed", "filtered"])
def test_what_is_mixed_or_filtered_is_read_in_the_same_order(kind: str) -> None:
    numbers = data.arrays(np.arange(30))
    if kind == "mixed":
        source = data.mixed([numbers, data.arrays(np.arange(100, 110))], [2, 1])
    else:
        source = data.filtered(numbers, lambda found: found % 3 == 0)
    whole = Cutting.even(len(source), 4, drop_remainder=False)

    def read(cutting: Cutting, start: int, stop: int) -> list[int]:
        context = IndexedContext(SEED, start=start, stop=stop, cutting=cutting)
        with indexed_context(context):
            found = data.batches(source, 4)
        return [int(example) for batch in found for example in batch.data]

    changed = whole.changed(2, 7)
    cut = read(whole, 0, 2) + read(changed, 2, changed.end(3))
    assert cut == read(whole, 0, whole.end(3))
    assert len(cut) == 3 * len(source)
