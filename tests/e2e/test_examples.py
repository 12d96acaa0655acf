"""Each example, killed in the middle on a real node, ends as if nothing had happened.

The reference is the same trainer on the same builder, without a cluster and without a kill.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from rtj_demo.jobs import EXAMPLES, load_example, put_file, start_inspector, submit
from rtj_demo.kube import Kube
from rtj_demo.story import flights_csv
from rtj_trainer.ledger import committed_trajectory

from tests.e2e.support import final_commit, job_folder, sigkill_after_a_commit, start_reference

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
    committed = sigkill_after_a_commit(job)
    status = job.wait_for_end()
    assert status["phase"] == "Completed"
    assert len(status["attempts"]) == 2
    assert status["attempts"][1]["firstStep"] >= committed

    folder, expected = job_folder(job), reference.finish()
    assert committed_trajectory(folder) == committed_trajectory(expected)
    assert final_commit(folder)["stateSha256"] == final_commit(expected)["stateSha256"]


@pytest.mark.usefixtures("operator")
def test_flights_waits_for_its_file_and_starts_as_its_readme_says(
    kube: Kube, namespace: str
) -> None:
    objects = load_example("flights", "flights")
    job = submit(kube, namespace, objects)
    job.wait_until("the job is suspended", lambda status: status.get("phase") == "Suspended")

    start_inspector(kube, namespace, "flights", objects[-1]["spec"]["trainer"]["image"])
    put_file(kube, namespace, flights_csv(), "/var/lib/rtj/data/flights.csv")
    readme = (EXAMPLES / "flights" / "README.md").read_text()
    (command,) = re.findall("^kubectl (patch .*)$", readme, re.MULTILINE)
    kube.run(*shlex.split(command), "--namespace", namespace)

    trains = ("Running", "Completed")
    status = job.wait_until("it trains", lambda status: status.get("phase") in trains)
    assert status.get("restarts", {}).get("total", 0) == 0
