"""How far the training is comes from the commit that an attempt goes on from, all of it."""

from datetime import UTC, datetime

import pytest
from rtj_trainer.commits.manifest import EpochSize, Manifest
from rtj_trainer.progress import Progress

pytestmark = pytest.mark.unit


def test_progress_is_restored_as_the_commit_tells_it() -> None:
    told = {
        "step": 16,
        "epoch": 2,
        "step_in_epoch": 4,
        "samples": 125,
        "epoch_size": EpochSize(examples=50, dropped=2, ids_are_places=True),
        "epoch_ended": True,
        "results": {"loss": 1.5},
    }
    manifest = Manifest(
        **told,
        attempt=1,
        parent=None,
        time=datetime(2026, 5, 4, tzinfo=UTC),
        strategy="iterator",
        fingerprint={},
        ledger_hash="",
        state_sha256="",
        target={},
    )
    progress = Progress()
    progress.restore(manifest)
    assert {name: getattr(progress, name) for name in told} == told
    assert progress.steps_per_epoch == 6
