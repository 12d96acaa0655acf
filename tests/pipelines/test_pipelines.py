"""Every pipeline of docs/pipelines.md goes on exactly in another process, or is refused before.

`RTJ_EVERY_BATCH=1` saves at every batch of the first, a middle and the last epoch.
"""

import os
import re
from collections.abc import Iterator

import pytest
from rtj_trainer.preflight.proven import PROVEN, PROVEN_BY_REPLAY

from tests.pipelines.table import DOCUMENT, Provers, Row, provers, rows

pytestmark = pytest.mark.unit

EVERY = bool(os.environ.get("RTJ_EVERY_BATCH"))


@pytest.fixture(scope="module")
def found() -> Iterator[Provers]:
    with provers() as running:
        yield running


@pytest.mark.parametrize("row", rows(), ids=str)
def test_a_pipeline_is_exact_or_refused_as_the_document_says(found: Provers, row: Row) -> None:
    result = found.examine(row, EVERY)
    assert not result.wrong, "silently wrong"
    assert result.line in DOCUMENT.read_text().splitlines(), "run `make pipelines`"
    assert not result.unproven, "bring rtj_trainer/preflight/proven.py up to date"


def test_the_document_has_the_rows_and_no_others() -> None:
    lines = re.findall(r"^\| (.*?) \| (?:exact|refused: .*?) \|", DOCUMENT.read_text(), re.M)
    assert lines == [row.title for row in rows()]
    assert len(lines) >= 60


def listed() -> tuple[set[str], set[str]]:
    """Return the operations that the document lists as proven."""
    listing = DOCUMENT.read_text().partition("## Operations that are proven")[2]
    whole, _, replayed = listing.partition("Only where all is read again")
    return set(re.findall(r"`(\w+)`", whole)), set(re.findall(r"`(\w+)`", replayed))


def test_the_trainer_counts_as_proven_what_the_document_lists() -> None:
    assert listed() == (PROVEN, PROVEN_BY_REPLAY), (
        "bring rtj_trainer/preflight/proven.py up to date"
    )
