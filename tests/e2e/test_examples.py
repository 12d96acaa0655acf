"""Each example, killed in the middle on a real node, ends as if nothing had happened.

The reference is the same trainer on the same builder, without a cluster and without a kill.
"""

from pathlib import Path
from typing import Any

import pytest
from rtj_demo.jobs import load_example, submit
from rtj_demo.kube import Kube, wait_for
from rtj_trainer.ledger import committed_trajectory

from tests.e2e.support import final_commit, job_folder, sigkill_trainer, start_reference

pytestmark = pytest.mark.e2e


EPOCHS = {"cached": 125, "iterator": 400, "loop": 200}
"""4,000 steps each, with a commit at every thousandth: long enough to be killed in the middle."""


@pytest.mark.parametrize("example", EPOCHS)
@pytest.mark.usefixtures("operator")
def test_an_example_killed_in_the_middle_ends_with_the_same_weights(
    example: str, kube: Kube, namespace: str, tmp_path: Path
) -> None:
    def shorten(job: dict[str, Any]) -> None:
        job["spec"]["epochs"] = EPOCHS[example]

    objects = load_example(example, example, shorten)
    reference = start_reference(objects, tmp_path)
    job = submit(kube, namespace, objects)
    commit = wait_for("a first commit", lambda: job.heartbeat().get("commit"), 120)
    sigkill_trainer(job)
    status = job.wait_for_end()
    assert status["phase"] == "Completed"
    assert len(status["attempts"]) == 2
    assert status["attempts"][1]["firstStep"] >= commit["step"]

    folder, expected = job_folder(job), reference.finish()
    assert committed_trajectory(folder) == committed_trajectory(expected)
    assert final_commit(folder)["stateSha256"] == final_commit(expected)["stateSha256"]
