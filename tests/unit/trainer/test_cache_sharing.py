"""`spec.dataset.cache.url`, and room on the claim: whole jobs on claims of their own.

100 examples in 7 shards, 2 epochs of 13 batches.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.trainer.small_volume import mounted
from tests.unit.trainer.support import Job, Kill, MakeJob

pytestmark = pytest.mark.unit

SHARDS = 7
SMALL_SHARDS = "import rtj_trainer.cache.writer as writer\nwriter.SHARD_BYTES = 1\n"
FILL = """
from pathlib import Path
from {module} import {owner} as owner
from tests.unit.trainer.small_volume import fill
original = owner.{name}
def full(*args, **kwargs):
    old = Path({volume!r}) / "cache" / "old"
    old.mkdir(parents=True)
    fill(old)
    return original(*args, **kwargs)
owner.{name} = full
"""


def job_of(make_job: MakeJob, **policy: Any) -> Job:
    job = make_job(
        module="cached",
        datasetFunction="shuffled",
        modelFunction="small_model",
        epochs=2,
        cache={"batchSize": 8, **policy},
    )
    patch(job, SMALL_SHARDS)
    return job


def patch(job: Job, source: str) -> None:
    path = job.folder / f"patch{len(job.patches)}.py"
    path.write_text(source)
    job.patches.append(path)


def fill_before(job: Job, module: str, owner: str, name: str) -> None:
    """Let a cache that nobody uses take all the room when a function is called."""
    volume = job.config["volume"]
    patch(job, FILL.format(module=module, owner=owner, name=name, volume=volume))


def cache_of(job: Job) -> dict[str, bytes]:
    """Return the shards on the claim."""
    return {
        path.name: path.read_bytes() for path in Path(job.config["volume"]).glob("cache/*/shards/*")
    }


@pytest.mark.parametrize(
    ("store", "is_killed"),
    [
        ("file", True),
        # What a store does when it is asked is the same for both, so no kill is needed here.
        ("redis", False),
    ],
)
def test_a_job_on_another_claim_fetches_the_cache_and_trains_alike(
    store: str,
    is_killed: bool,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    make_job: MakeJob,
) -> None:
    is_redis = store == "redis"
    url = request.getfixturevalue("redis_url") if is_redis else f"file://{tmp_path}/shared"
    first = job_of(make_job, url=url)
    first.run_to_end(*([Kill("cache-entry", 3)] if is_killed else []), goes_on=False)
    assert len(cache_of(first)) == SHARDS
    second = job_of(make_job, url=url)
    second.run_to_end(*([Kill("step", 17)] if is_killed else []))
    assert "is complete already" in second.log
    assert "is written, with" not in second.log
    assert "made again" not in second.log
    assert cache_of(second) == cache_of(first)
    assert second.outcome() == first.outcome()


def test_what_a_store_lost_is_made_again_and_published_again(
    tmp_path: Path, make_job: MakeJob
) -> None:
    shared = tmp_path / "shared"
    first = job_of(make_job, url=f"file://{shared}")
    first.run_to_end()
    lost = sorted(shared.glob("*/*.tfrecord"))[2]
    content = lost.read_bytes()
    lost.unlink()
    second = job_of(make_job, url=f"file://{shared}")
    second.run_to_end()
    assert second.log.count("is made again") == 1
    assert lost.read_bytes() == content
    assert second.outcome() == first.outcome()


def test_shards_that_are_fetched_take_the_room_of_a_cache_that_nobody_uses(
    tmp_path: Path, make_job: MakeJob
) -> None:
    url = f"file://{tmp_path}/shared"
    first = job_of(make_job, url=url)
    first.run_to_end()
    second = job_of(make_job, url=url, maxSize="200k")
    fill_before(second, "rtj_trainer.cache.sharing", "Sharing", "fetch")
    with mounted(second.folder / "volume", megabytes=1):
        second.run_to_end()
        assert second.outcome() == first.outcome()
    assert "evicting cache old" in second.log


def test_shards_that_are_made_again_take_the_room_of_a_cache_that_nobody_uses(
    make_job: MakeJob,
) -> None:
    job = job_of(make_job, maxSize="200k")
    with mounted(job.folder / "volume", megabytes=1):
        assert job.run(Kill("step", 12)) == -9
        for path in Path(job.config["volume"]).glob("cache/*/shards/*"):
            path.unlink()
        fill_before(job, "rtj_trainer.cache", "materialise", "make_again")
        job.run_to_end()
    assert job.starts[-1] > 0
    assert job.log.count("is made again") == SHARDS
    assert "evicting cache old" in job.log
