"""A pipeline with an operation that no test has proven is rehearsed, once, before step 0."""

from pathlib import Path
from typing import Any

import pytest
from rtj_api.launch import TrainerConfig
from rtj_api.names import ExitCode
from rtj_trainer.errors import PermanentError
from rtj_trainer.preflight import doubt
from rtj_trainer.preflight.rehearsal import Verdict

from tests.unit.trainer.support import BUILDERS, Job, Kill, MakeJob

pytestmark = pytest.mark.unit

GOOD = (BUILDERS / "builder.py").read_text()
OTHER_IN_EACH_PROCESS = """

def build_other():
    import os
    path = Path(__file__).with_name("lines")
    path.write_text("".join(f"{os.getpid() * n}\\n" for n in range(9)))
    lines = tf.data.TextLineDataset(str(path))
    return lines.map(lambda line: _features(tf.strings.to_number(line))).batch(2)
"""
UNPROVEN = """
from rtj_trainer.preflight import proven
proven.PROVEN -= {"BatchDatasetV2", "TextLineDataset"}
"""
FORKED = """
from tests.unit.trainer.rehearsals import fork_from_here
fork_from_here()
"""


def unproven(job: Job, rehearsed: str = FORKED) -> Job:
    patch = job.folder / "patch.py"
    patch.write_text(UNPROVEN + rehearsed)
    job.patches.append(patch)
    return job


def test_a_job_killed_before_its_first_commit_is_rehearsed_once(make_job: MakeJob) -> None:
    job = unproven(make_job(datasetFunction="shuffled"), rehearsed="")
    assert job.run(Kill("step")) == -9, job.log[-3000:]
    assert "unproven BatchDatasetV2" in job.log
    assert job.run() == ExitCode.COMPLETED, job.log[-3000:]
    assert job.log.count("rehearsing the pipeline") == 1
    assert "rehearsed before" in job.log


def test_a_pipeline_whose_rehearsal_differs_is_refused(make_job: MakeJob) -> None:
    source = "from pathlib import Path\n" + GOOD + OTHER_IN_EACH_PROCESS
    job = unproven(make_job(source, datasetFunction="build_other"))
    assert job.run() == ExitCode.PERMANENT, job.log[-3000:]
    assert job.final_record["reason"] == "PipelineNotResumable"
    assert "TextLineDataset builder.py:" in job.final_record["message"]
    assert "was another than before" in job.final_record["message"]


FAILS_ONCE = """

def build_failing():
    import os, signal, sys
    failed = Path(__file__).with_name("failed")
    if "compare" in sys.argv and not failed.exists():
        failed.touch()
        {failure}
    return shuffled()
"""


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "died with signal 9"),
        ("raise OSError('no space left')", "ended with exit code 1"),
    ],
    ids=["memory", "builder"],
)
def test_a_rehearsal_that_failed_is_no_refusal(failure: str, words: str, make_job: MakeJob) -> None:
    source = "from pathlib import Path\n" + GOOD + FAILS_ONCE.format(failure=failure)
    job = unproven(make_job(source, datasetFunction="build_failing"))
    assert job.run() == ExitCode.USER_ERROR, job.log[-3000:]
    message = job.final_record["message"]
    assert "the pipeline cannot be rehearsed, which BatchDatasetV2" in message
    assert words in message
    assert job.run() == ExitCode.COMPLETED, job.log[-3000:]


class Rehearsals:
    """Stands for the two processes, and counts."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.count = 0

    def __call__(self, plan: Any, folder: Path) -> Verdict:
        self.count += 1
        return self.verdict


@pytest.fixture
def config(tmp_path: Path) -> TrainerConfig:
    (tmp_path / "data.csv").write_text("1")
    return TrainerConfig.model_validate(
        {
            "jobName": "job",
            "jobUid": "uid",
            "attempt": 1,
            "builder": {
                "module": "builder",
                "datasetFunction": "build_dataset",
                "datasetParams": {"files": [str(tmp_path / "data.csv")], "size": 3},
                "modelFunction": "build_model",
                "modelParams": {},
            },
            "seed": 1,
            "epochs": 1,
            "totalSteps": None,
            "checkpoint": {"claimName": "claim"},
        }
    )


DEPENDS_ON = {"source": {"builder": "1"}, "environment": {"tensorflow": "2.21.0"}}


@pytest.mark.parametrize("change", ["nothing", "builder", "version", "data"])
def test_a_verdict_is_kept_until_what_it_depends_on_changes(
    change: str, config: TrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsals = Rehearsals(Verdict(0, "exact"))
    monkeypatch.setattr(doubt, "rehearse", rehearsals)
    doubt.settle(config, ["NewDataset"], DEPENDS_ON, tmp_path / "verdicts")
    depends_on: dict[str, Any] = {
        "builder": {**DEPENDS_ON, "source": {"builder": "2"}},
        "version": {**DEPENDS_ON, "environment": {"tensorflow": "2.22.0"}},
    }.get(change, DEPENDS_ON)
    if change == "data":
        (tmp_path / "data.csv").write_text("12")
    doubt.settle(config, ["NewDataset"], depends_on, tmp_path / "verdicts")
    assert rehearsals.count == (1 if change == "nothing" else 2)


@pytest.mark.parametrize(
    "verdict",
    [Verdict(78, "batch 3 was another"), Verdict(0, "", proven=False)],
    ids=["different", "no-time"],
)
def test_what_is_not_shown_to_be_exact_is_refused_at_each_attempt(
    verdict: Verdict, config: TrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsals = Rehearsals(verdict)
    monkeypatch.setattr(doubt, "rehearse", rehearsals)
    for _ in range(2):
        with pytest.raises(
            PermanentError, match=r"NewDataset: .*; use .* such as map, filter, batch"
        ):
            doubt.settle(config, ["NewDataset"], DEPENDS_ON, tmp_path)
    assert rehearsals.count == 2


def test_a_proven_pipeline_is_not_rehearsed(
    config: TrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsals = Rehearsals(Verdict(0, "exact"))
    monkeypatch.setattr(doubt, "rehearse", rehearsals)
    doubt.settle(config, [], DEPENDS_ON, tmp_path)
    assert rehearsals.count == 0
