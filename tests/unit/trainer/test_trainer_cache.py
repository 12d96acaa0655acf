"""`spec.dataset.cache`: examples are written once, whoever is killed, and trained on exactly.

100 examples in 7 shards, 3 epochs of 13 batches, a commit every 5 steps.
"""

import json
from functools import cache as remembered
from pathlib import Path
from typing import Any

import pytest
from rtj_api.names import ExitCode
from rtj_trainer.ledger import check_each_id_once_per_epoch

from tests.unit.trainer.support import Job, Kill, MakeJob

pytestmark = pytest.mark.unit

SMALL_SHARDS = "import rtj_trainer.cache.writer as writer\nwriter.SHARD_BYTES = 1\n"
SHARDS = 7


@pytest.fixture(scope="module")
def small_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("patch") / "small_shards.py"
    path.write_text(SMALL_SHARDS)
    return path


@pytest.fixture(scope="module")
def cached(make_job: MakeJob, small_shards: Path) -> Any:
    """Make a job whose dataset is cached in small shards."""

    def make(function: str, volume: Path | None = None, **changes: Any) -> Job:
        policy = {"batchSize": 8, **changes.pop("cache", {})}
        job = make_job(module="cached", datasetFunction=function, cache=policy, **changes)
        if volume:
            job.config["volume"] = str(volume)
        job.patches.append(small_shards)
        return job

    return make


@pytest.fixture(scope="module")
def reference(cached: Any) -> Any:
    @remembered
    def outcome(function: str) -> Any:
        job = cached(function)
        job.run_to_end()
        return job.outcome()

    return outcome


WHILE_WRITING = [
    [Kill("cache-examples", 1)],
    [Kill("cache-shard", 1)],
    [Kill("cache-position", 3)],
    [Kill("cache-entry", 5)],
    [Kill("cache-shard", 7), Kill("cache-manifest", before=True)],
]


@pytest.mark.parametrize(
    ("function", "kills"),
    [
        *[("shuffled", kills) for kills in WHILE_WRITING],
        ("shuffled", [Kill("cache-entry", 2), Kill("cache-shard", 2), Kill("step", 9)]),
        ("saved", [Kill("cache-manifest"), Kill("step", 13), Kill("batch", 15)]),
        ("replayed", [Kill("cache-entry", 3), Kill("step", 24)]),
        ("by_place", [Kill("cache-position", 2), Kill("step", 38)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)
def test_a_job_killed_while_it_writes_or_trains_ends_as_if_it_never_was(
    function: str, kills: list[Kill], cached: Any, reference: Any
) -> None:
    job = cached(function)
    job.run_to_end(*kills)
    assert job.last_manifest.strategy == "index"
    assert job.outcome() == reference(function)
    counts = check_each_id_once_per_epoch(job.outcome()[2], range(100))
    assert counts == dict.fromkeys(range(3), 100)
