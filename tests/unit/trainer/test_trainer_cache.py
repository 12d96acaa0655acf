"""`spec.dataset.cache`: examples are written once, whoever is killed, and trained on exactly.

100 examples in 7 shards, 3 epochs of 13 batches, a commit every 5 steps.
"""

import json
from functools import cache as remembered
from pathlib import Path
from typing import Any

import pytest
from rtj_api.names import ExitCode

from tests.unit.trainer.support import Job, Kill, MakeJob, Whole, check_each_id_once_per_epoch

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
        fields = {"module": "cached", "modelFunction": "small_model", **changes}
        job = make_job(datasetFunction=function, cache=policy, **fields)
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


AT_EACH_TURN_OF_WRITING = [
    Kill("cache-examples", 2),
    Kill("cache-shard", 1),
    Kill("cache-position", 1, before=True),
    Kill("cache-position", 2),
    Kill("cache-entry", 2),
    Kill("cache-manifest", before=True),
    Kill("cache-manifest"),
]


@pytest.mark.parametrize(
    ("function", "kills", "goes_on"),
    [
        pytest.param("shuffled", AT_EACH_TURN_OF_WRITING, False, id="seven-times-writing"),
        pytest.param(
            "by_place", [Kill("cache-entry", 3), Kill("step", 13)], True, id="a-source-by-place"
        ),
        pytest.param("replayed", [Kill("cache-entry", 3), Kill("step", 24)], True, id="read-again"),
    ],
)
def test_a_job_killed_while_it_writes_or_trains_ends_as_if_it_never_was(
    function: str, kills: list[Kill], goes_on: bool, cached: Any, reference: Any
) -> None:
    job = cached(function)
    job.run_to_end(*kills, goes_on=goes_on)
    assert job.last_manifest.strategy == "index"
    assert job.outcome() == reference(function)
    counts = check_each_id_once_per_epoch(job.outcome()[2], range(100))
    assert counts == dict.fromkeys(range(3), 100)
    # No kill cost more than the shard that was being written.
    assert job.log.count("is written, with") <= SHARDS + len(kills)


def test_an_epoch_has_the_order_of_any_other_source(reference: Any, whole: Whole) -> None:
    assert whole("by_index", model="small_model").outcome()[2] == reference("by_place")[2]


def test_a_later_job_shares_the_cache_and_another_pipeline_has_its_own(cached: Any) -> None:
    first = cached("saved")
    first.run_to_end()
    volume = first.folder / "volume"
    [key] = caches(volume)
    shards = {path: path.stat().st_mtime_ns for path in (key / "shards").iterdir()}
    second = cached("saved", volume, jobUid="uid-2", seed=8, modelFunction="build_model")
    second.run_to_end()
    assert f"cache {key} is complete already" in second.log
    assert "is written, with" not in second.log
    assert {path: path.stat().st_mtime_ns for path in (key / "shards").iterdir()} == shards
    third = cached("saved", volume, jobUid="uid-3", datasetParams={"count": 90})
    assert third.run(Kill("cache-entry")) == -9
    assert len(caches(volume)) == 2
    assert [path.name for path in volume.glob("cache/*/uses/*")] == ["uid-3"]


def test_damaged_shards_are_named_and_made_again(cached: Any, reference: Any) -> None:
    job = cached("replayed")
    assert job.run(Kill("step", 12)) == -9
    [key] = caches(job.folder / "volume")
    listed = json.loads((key / "manifest.json").read_text())["shards"]
    flipped, gone = (key / "shards" / f"{listed[n]['sha256']}.tfrecord" for n in (2, 4))
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    gone.unlink()
    job.run_to_end()
    assert job.starts[-1] > 0
    assert job.outcome() == reference("replayed")
    assert f"shard 2 of the dataset's cache, {flipped}, is damaged" in job.log
    assert f"shard 4 of the dataset's cache, {gone}, is made again" in job.log


def test_a_batch_function_draws_anew_in_every_batch_and_draws_the_same_again(cached: Any) -> None:
    whole, killed = (
        cached("saved", batchFunction="flipped", batchParams={"share": 0.5}) for _ in range(2)
    )
    whole.run_to_end()
    killed.run_to_end(Kill("step", 17))
    assert killed.outcome() == whole.outcome()
    assert whole.last_manifest.fingerprint["batch"] == {"function": "flipped", "share": 0.5}


def test_a_cache_that_is_larger_than_it_may_be_fails_the_job_with_the_field(cached: Any) -> None:
    job = cached("saved", cache={"maxSize": "2k"})
    assert job.run() == ExitCode.PERMANENT
    assert job.final_record["reason"] == "InvalidSpec"
    assert "spec.dataset.cache.maxSize is 2000 bytes, but" in job.final_record["message"]


def caches(volume: Path) -> list[Path]:
    return sorted(path for path in (volume / "cache").iterdir() if path.name[0] != ".")
