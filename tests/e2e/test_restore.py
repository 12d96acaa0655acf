"""On real nodes: a job that goes back ends like one that never went on, and can be forked."""

import json
from pathlib import Path
from typing import Any

import pytest
from rtj_demo.jobs import submit
from rtj_demo.kube import Kube

from tests.e2e.support import final_commit, job_folder, resting_example, start_reference

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
