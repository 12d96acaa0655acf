"""On real nodes: a job that goes back ends like one that never went on, and can be forked."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from rtj_demo.jobs import Job, submit
from rtj_demo.kube import Kube
from rtj_trainer.ledger import committed_trajectory

from tests.e2e.support import (
    final_commit,
    job_folder,
    resting_example,
    sigkill_after_a_commit,
    start_reference,
)

pytestmark = pytest.mark.e2e


def _keep_many(job: dict[str, Any]) -> None:
    # The oldest must still be there when the request arrives.
    job["spec"]["checkpoint"]["keep"] = 20


@pytest.mark.usefixtures("operator")
def test_a_job_goes_back_once_and_a_fork_goes_on_from_it(
    kube: Kube, namespace: str, tmp_path: Path
) -> None:
    objects = resting_example("back", _keep_many)
    reference = start_reference(objects, tmp_path)
    job = submit(kube, namespace, objects)
    status = job.wait_until("three commits", lambda s: len(s.get("commits", [])) >= 3)
    chosen = status["commits"][-1]
    patch = json.dumps({"spec": {"restore": {"fromCommit": chosen}}})
    kube.run("patch", "rtj", job.name, "-n", namespace, "--type=merge", "-p", patch)
    status = job.wait_until(
        "the next attempt to go back",
        lambda s: s.get("restore", {}).get("outcome") not in (None, "Pending"),
    )
    assert status["restore"]["outcome"] == "Restored"
    assert status["attempts"][0]["reason"] == "RestoreRequested"
    final = job.wait_for_end()
    assert final["phase"] == "Completed"
    assert final["attempts"][-1]["firstStep"] == int(chosen.split("-")[0])
    assert [ended["number"] for ended in final["attempts"]] == [1, 2]
    assert final["restarts"]["total"] == 0
    expected, done = final_commit(reference.finish()), final_commit(job_folder(job))
    assert done["stateSha256"] == expected["stateSha256"]
    assert done["ledgerHash"] == expected["ledgerHash"]

    def one_epoch_more(fork: dict[str, Any]) -> None:
        fork["spec"] |= {"forkFrom": {"jobName": job.name}, "epochs": fork["spec"]["epochs"] + 1}

    fork = submit(kube, namespace, resting_example("fork", one_epoch_more))
    assert fork.wait_for_end()["phase"] == "Completed"
    assert fork.status()["forkedFrom"]["jobUid"] == job.uid()
    assert final_commit(job_folder(fork))["step"] == done["step"] + 10


ELASTIC = Path(__file__).parent / "builders" / "elastic.py"


def _elastic(name: str, batch_size: int, epochs: int, **spec: Any) -> list[dict[str, Any]]:
    def change(job: dict[str, Any]) -> None:
        job["spec"] |= {"epochs": epochs, **spec}
        job["spec"]["checkpoint"]["everySteps"] = 15
        job["spec"]["builder"] |= {
            "module": "elastic",
            "datasetParams": {"size": 100, "batch_size": batch_size},
        }

    objects = resting_example(name, change)
    for found in objects:
        if found["kind"] == "ConfigMap":
            found["data"]["elastic.py"] = ELASTIC.read_text()
    return objects


def _ids(job: Job) -> list[Any]:
    return list(
        chain.from_iterable(entry.ids or () for entry in committed_trajectory(job_folder(job)))
    )


@pytest.mark.usefixtures("operator")
def test_a_fork_goes_on_at_the_next_example_with_another_batch_size(
    kube: Kube, namespace: str
) -> None:
    origin = submit(kube, namespace, _elastic("tens", 10, epochs=4))
    final = origin.wait_for_end()
    assert final["phase"] == "Completed"
    within_an_epoch = next(name for name in final["commits"] if int(name.split("-")[0]) % 10)

    asked = {
        "forkFrom": {"jobName": origin.name, "commit": within_an_epoch},
        "fingerprintPolicy": {"batchSize": "Warn"},
    }
    fork = submit(kube, namespace, _elastic("fours", 4, epochs=40, **asked))
    forked_at = int(within_an_epoch.split("-")[0])
    sigkill_after_a_commit(fork)
    status = fork.wait_for_end()
    assert status["phase"] == "Completed"
    assert len(status["attempts"]) == 2

    order = _ids(fork)
    epochs = [sorted(order[start : start + 100]) for start in range(0, len(order), 100)]
    assert epochs == [list(range(100))] * 40
    assert order[:400] == _ids(origin)
    sizes = [len(entry.ids or ()) for entry in committed_trajectory(job_folder(fork))]
    assert sizes[:forked_at] == [10] * forked_at
    assert set(sizes[forked_at:]) <= {4, 2}
