"""The figures of the benchmark: what the last line says of samples, repeats and failed stages."""

import json

import pytest
from rtj_bench import cpu, kwok
from rtj_bench.figures import KEYS, Figures, percentile
from rtj_bench.population import JobKey, theirs
from rtj_bench.sight import Sight

pytestmark = pytest.mark.unit


def test_a_percentile_is_a_sample_that_so_many_are_not_above() -> None:
    samples = [float(number) for number in range(200, 0, -1)]
    assert percentile(samples, 50) == 100
    assert percentile(samples, 99) == 198
    assert percentile([3.0], 99) == 3


def test_the_line_has_medians_their_spread_and_null_for_what_failed() -> None:
    figures = Figures()
    for seconds in (3.0, 1.0, 2.0):
        figures.add({"zone_relaunch_s": seconds})
    line = json.loads(json.dumps(figures.report(3, {"jobs": 10})))
    assert (line["zone_relaunch_s"], line["repeats"]) == (2.0, 3)
    assert line["spread"] == {"zone_relaunch_s": [1.0, 3.0]}
    assert {key for key in KEYS if line[key] is None} == set(KEYS) - {"zone_relaunch_s"}


def test_a_job_has_the_pod_of_ours_and_does_not_count_disruptions() -> None:
    job = theirs(JobKey(False, "team", "job"))["spec"]
    pod = job["template"]["spec"]
    assert pod["containers"][0]["name"] == "trainer"
    assert pod["restartPolicy"] == "Never"
    assert job["podFailurePolicy"]["rules"][0]["action"] == "Ignore"


def event(uid: str, phase: str) -> dict[str, object]:
    meta = {"name": uid, "uid": uid, "namespace": "team"}
    meta["labels"] = {"batch.kubernetes.io/job-name": "job"}
    return {"metadata": meta, "status": {"phase": phase}}


def test_a_pod_ends_once_and_the_next_one_is_its_successor() -> None:
    sight, key = Sight(), JobKey(False, "team", "job")
    sight.saw("ADDED", event("a", "Running"))
    first = sight.running(key)
    assert first
    sight.saw("MODIFIED", event("a", "Failed"))
    ended = first.ended
    assert ended
    assert sight.running(key) is None
    sight.saw("ADDED", event("b", "Pending"))
    sight.saw("DELETED", event("a", "Failed"))
    successor = sight.successor(key, first)
    assert successor
    assert successor.uid == "b"
    assert successor.created >= ended == first.ended
    assert sight.running(key) is None
    sight.saw("MODIFIED", event("b", "Running"))
    assert sight.running(key) is successor


def test_kwok_is_pinned_by_its_sums() -> None:
    assert "sigs.k8s.io/kwok v0.8.0" in (kwok.SOURCE / "go.mod").read_text()
    assert "sigs.k8s.io/kwok v0.8.0 h1:" in (kwok.SOURCE / "go.sum").read_text()


def test_cpu_time_is_told_by_process_and_per_preemption() -> None:
    before, after = {"api": 1.0, "etcd": 1.0, "gone": 5.0}, {"api": 1.5, "etcd": 3.0, "came": 9.0}
    used = cpu.between(before, after)
    assert used == {"etcd": 2.0, "api": 0.5}
    assert cpu.told(used, 50) == "2.5 s of CPU, 50 ms per preemption: etcd 2.0, api 0.5"
