"""A pipeline with an operation that no test has proven is rehearsed, once, before step 0."""

import json
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from rtj_api.launch import TrainerConfig
from rtj_api.names import ExitCode, Reason
from rtj_trainer import verify
from rtj_trainer.__main__ import run_command
from rtj_trainer.errors import PermanentError
from rtj_trainer.preflight import doubt, rehearsal
from rtj_trainer.preflight.playing import Calls
from rtj_trainer.preflight.rehearsal import Plan, Verdict, rehearse

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


def small_job(make_job: MakeJob, function: str, source: str = GOOD) -> Job:
    return make_job(source, datasetFunction=function, modelFunction="small_model")


def unproven(job: Job, rehearsed: str = FORKED) -> Job:
    patch = job.folder / "patch.py"
    patch.write_text(UNPROVEN + rehearsed)
    job.patches.append(patch)
    return job


def test_a_job_killed_before_its_first_commit_is_rehearsed_once(make_job: MakeJob) -> None:
    job = unproven(small_job(make_job, "shuffled"), rehearsed="")
    assert job.run(Kill("step")) == -9, job.log[-3000:]
    assert "unproven BatchDatasetV2" in job.log
    assert job.run() == ExitCode.COMPLETED, job.log[-3000:]
    assert job.log.count("rehearsing the pipeline") == 1
    assert "rehearsed before" in job.log


def test_a_pipeline_whose_rehearsal_differs_is_refused(make_job: MakeJob) -> None:
    source = "from pathlib import Path\n" + GOOD + OTHER_IN_EACH_PROCESS
    job = unproven(small_job(make_job, "build_other", source))
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
    job = unproven(small_job(make_job, "build_failing", source))
    assert job.run() == ExitCode.USER_ERROR, job.log[-3000:]
    message = job.final_record["message"]
    assert "the pipeline cannot be rehearsed, which BatchDatasetV2" in message
    assert words in message
    assert job.run() == ExitCode.COMPLETED, job.log[-3000:]


TAKES_AN_HOUR = """

def build_slowly():
    import sys, time
    if "record" in sys.argv:
        told = time.monotonic
        time.monotonic = lambda: told() + 3600
    return shuffled()
"""


def test_building_the_dataset_takes_nothing_of_the_time_to_rehearse(make_job: MakeJob) -> None:
    job = unproven(small_job(make_job, "build_slowly", GOOD + TAKES_AN_HOUR))
    assert job.run() == ExitCode.COMPLETED, job.log[-3000:]
    assert "begun anew and resumed at step 1, " in job.log


SLOW = """

def build_slowly():
    import sys, time
    if "compare" in sys.argv:
        told = time.monotonic
        time.monotonic = lambda: told() + {seconds}
    return shuffled()
"""
"""Each build takes so long by the clock of the process that compares, which has 180 s."""


def test_as_many_positions_are_tried_as_a_slow_builder_leaves_time_for(make_job: MakeJob) -> None:
    job = unproven(make_job(GOOD + SLOW.format(seconds=70), datasetFunction="build_slowly"))
    assert job.run() == ExitCode.COMPLETED, job.log[-3000:]
    rehearsed = next(line for line in job.log.splitlines() if " rehearsed: " in line)
    tried, _, left_out = rehearsed.partition("; not resumed at step ")
    last = int(tried.partition("begun anew and resumed at step ")[2].partition(";")[0])
    positions, _, why = left_out.partition(": ")
    assert max(map(int, positions.split(", "))) < last, "the latest tells most"
    assert "no time to build the dataset and read it once more, of the 180 s that" in why
    assert why.endswith("building took up to 70 s")


def test_a_builder_too_slow_for_any_position_is_said_to_be_so(make_job: MakeJob) -> None:
    job = unproven(make_job(GOOD + SLOW.format(seconds=170), datasetFunction="build_slowly"))
    assert job.run() == ExitCode.USER_ERROR, job.log[-3000:]
    message = job.final_record["message"]
    assert "the pipeline cannot be rehearsed, which BatchDatasetV2" in message
    assert "no saved position was tried; not resumed at step 1, " in message
    assert "building took up to 170 s" in message


def test_what_was_under_way_when_the_time_was_up_is_said(
    config: TrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], timeout: float, **_: Any) -> NoReturn:
        def end() -> NoReturn:
            raise subprocess.TimeoutExpired(command, timeout)

        Calls(end, "datasetFunction", Path(command[-1]) / "doing")()
        raise AssertionError("the call returned")

    processes = SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(rehearsal, "subprocess", processes)
    verdict = rehearse(Plan(builder=config.builder, seed=1, seconds=60), tmp_path)
    assert verdict.message.endswith("within 180 s: call 1 of datasetFunction had not ended")


HURRIES = """
from rtj_trainer.preflight import doubt
doubt._SECONDS = 1e-6
"""


def test_the_first_batches_are_compared_however_long_they_take(make_job: MakeJob) -> None:
    job = unproven(small_job(make_job, "shuffled"), rehearsed=FORKED + HURRIES)
    assert job.run() == ExitCode.COMPLETED, job.log[-3000:]
    assert "begun anew and resumed at step 1; " in job.log


@pytest.mark.parametrize("slow", ["record", "compare"])
def test_a_process_that_does_not_end_in_time_tells_nothing(
    slow: str, config: TrainerConfig, tmp_path: Path
) -> None:
    if slow == "compare":
        recorded = {"strategy": "iterator", "unproven": [], "batches": [], "steps": [1]}
        (tmp_path / "recorded.json").write_text(json.dumps(recorded))
    plan = Plan(builder=config.builder, seed=1, seconds=0.01, start_seconds=0)
    verdict = rehearse(plan, tmp_path)
    assert (verdict.exit_code, verdict.reason) == (ExitCode.USER_ERROR, Reason.BUILDER_FAILED)
    assert "did not end within 0 s" in verdict.message
    assert not verdict.proven


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
    ids=["different", "one-batch"],
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


def test_a_user_who_verifies_is_told_that_there_was_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    builder = tmp_path / "builder.py"
    builder.touch()
    monkeypatch.setattr(verify, "Plan", partial(Plan, start_seconds=0))
    command = ["verify", str(builder), "--time-budget-seconds", "0.01"]
    for options in ([], ["--model-function", "build_model"]):
        assert run_command([*command, *options]) == verify.NOT_PROVEN
        told = capsys.readouterr().out
        assert told.startswith("not proven: the process that was to ")
        assert "did not end within 0 s; give more --time-budget-seconds" in told


def test_a_proven_pipeline_is_not_rehearsed(
    config: TrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsals = Rehearsals(Verdict(0, "exact"))
    monkeypatch.setattr(doubt, "rehearse", rehearsals)
    doubt.settle(config, [], DEPENDS_ON, tmp_path)
    assert rehearsals.count == 0
