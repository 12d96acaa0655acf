"""A program that takes its steps itself ends as if it had never been killed, or is refused.

The jobs have 3 epochs of 13 batches, the last one short, and commit every 5 steps, as those of
test_trainer_exactness.py. The program is killed in the trainer's code and in its own.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rtj_api.names import ExitCode
from rtj_trainer.commits.layout import JobDirectory

from tests.unit.trainer.support import (
    BUILDERS,
    Job,
    Kill,
    MakeJob,
    check_each_id_once_per_epoch,
    outcome_at,
)

pytestmark = pytest.mark.unit

TERM = "SIGTERM"


def job_of(make_job: MakeJob, function: str, **changes: Any) -> Job:
    return make_job(
        module="own", **{"trainFunction": function, "datasetFunction": "shuffled", **changes}
    )


def die(job: Job, place: str) -> None:
    """Run an attempt that is killed at a place in the program's own code."""
    patch = job.folder / "die.py"
    patch.write_text(f"import os\nos.environ['DIE_AT'] = {place!r}\n")
    job.patches = [patch]
    assert job.run() == -9, job.log[-3000:]
    job.patches = []


@pytest.fixture(scope="module")
def reference(make_job: MakeJob) -> Any:
    @cache
    def outcome(function: str, dataset: str = "shuffled") -> Any:
        job = job_of(make_job, function, datasetFunction=dataset)
        job.run_to_end()
        return job.outcome()

    return outcome


@pytest.mark.parametrize(
    ("dataset", "ends"),
    [
        pytest.param("shuffled", [Kill("step", 3), "after 12"], id="first-epoch-and-its-last-step"),
        pytest.param("shuffled", [Kill("step", 13, TERM), "epoch 1"], id="ends-of-epochs"),
        pytest.param("shuffled", ["before 13", "after 17"], id="own-code-in-the-middle"),
        pytest.param("shuffled", [Kill("step", 38), "epoch 2", "end"], id="last-epoch-and-after"),
        pytest.param("by_index", ["epoch 0", Kill("state-written", 2), "after 38"], id="by-index"),
    ],
)
def test_a_loop_with_two_optimizers_goes_on_as_if_it_had_not_been_killed(
    dataset: str, ends: list[Any], make_job: MakeJob, reference: Any
) -> None:
    job = job_of(make_job, "two_optimizers", datasetFunction=dataset)
    for end in ends:
        if isinstance(end, Kill):
            assert job.run(end) == (-9 if end.signal == "SIGKILL" else ExitCode.PREEMPTED)
        else:
            die(job, end)
    job.run_to_end()
    assert job.starts[-1] > 0
    assert job.outcome() == reference("two_optimizers", dataset)
    assert check_each_id_once_per_epoch(job.outcome()[2], range(100)) == dict.fromkeys(
        range(3), 100
    )
    assert "trained: [0, 1, 2] 39" in job.log


def test_what_is_handed_over_is_found_again_by_its_name_in_whatever_order_it_is_made(
    make_job: MakeJob, reference: Any
) -> None:
    job = job_of(make_job, "towers")
    job.run_to_end(Kill("step", 7, TERM), Kill("step", 9, TERM))
    assert job.outcome() == reference("towers")


@pytest.mark.parametrize(
    ("in_optimizer", "change"),
    [
        (False, "own.model/0: model.first.kernel -> model.second.kernel"),
        (True, "trained by optimizer/0: model.first.kernel -> model.second.kernel"),
    ],
    ids=["model", "optimizer"],
)
def test_variables_of_one_shape_that_change_places_are_not_given_each_others_values(
    in_optimizer: bool, change: str, make_job: MakeJob
) -> None:
    job = job_of(make_job, "two_alike", trainParams={"in_optimizer": in_optimizer})
    assert job.run(Kill("step", 7, TERM)) == ExitCode.PREEMPTED, job.log[-2000:]
    assert job.run() == ExitCode.PERMANENT
    assert job.final_record["reason"] == "FingerprintMismatch"
    assert change in job.final_record["message"]
    job.run_to_end()


def test_a_loop_that_writes_where_it_is_told_goes_on_and_its_stop_is_the_end_of_the_job(
    make_job: MakeJob, tmp_path: Path
) -> None:
    job = job_of(make_job, "stops", trainParams={"samples": str(tmp_path)})
    assert job.run(Kill("step", 15, TERM)) == ExitCode.PREEMPTED
    job.run_to_end()
    assert job.last_manifest.step == 17
    assert job.last_manifest.stopped_early
    assert len(list(tmp_path.iterdir())) == 17
    assert job.run() == ExitCode.COMPLETED
    assert not job.directory.ledger_segment(job.attempts).exists()


def test_fit_with_callbacks_and_validation_goes_on_as_if_it_had_not_been_killed(
    make_job: MakeJob, reference: Any
) -> None:
    job = job_of(make_job, "fitted", epochs=3)
    job.run_to_end(
        Kill("step", 7, TERM), Kill("validation-batch", 2), Kill("epoch-end", 1), Kill("step", 6)
    )
    assert job.outcome() == reference("fitted")


@pytest.mark.parametrize(("within", "step"), [(True, 17), (False, 13)])
def test_a_callback_of_fit_may_stop_the_session(within: bool, step: int, make_job: MakeJob) -> None:
    job = job_of(make_job, "fitted_and_stopped", trainParams={"within": within})
    job.run_to_end(Kill("step", 9, TERM))
    assert (job.last_manifest.step, job.last_manifest.stopped_early) == (step, True)
    assert job.run() == ExitCode.COMPLETED
    assert not job.directory.ledger_segment(job.attempts).exists()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("forgets_a_variable", ["'counter", "was changed by the steps up to 1", "session.track()"]),
        ("forgets_an_optimizer", ["the variable 'adam", "session.track()"]),
        ("makes_a_variable_in_a_step", ["'late", "was made during the steps up to 1"]),
        ("forgets_later", ["'late", "was changed by the steps up to 5"]),
        ("hands_over_what_is_not_built", ["optimizer has no variables yet", "optimizer.build("]),
        ("hands_over_a_list_of_numbers", ["history[0] is a float", "get_state(self)"]),
        ("hands_over_what_is_only_read", ["counter is a OnlyRead", "set_state(self, state)"]),
        ("hands_over_by_object", ["layers has the key <class", "use texts or numbers"]),
        ("hands_over_too_late", ["before session.steps()"]),
        ("draws_in_a_function", ["RandomStandardNormal", "SeedGenerator"]),
        ("reseeds", ["the program seeds or replaces a global generator", "stateless_*"]),
        ("counts_in_the_kernel", ["own.py:", "draws by tf.random.* with seed=3"]),
        ("fits_and_reseeds", ["Reseeds", "keras.utils.set_random_seed", "not started"]),
        ("reads_another_dataset", ["iterator of another dataset", "zip the datasets into one"]),
        ("does_nothing", ["without a call of session.steps()"]),
        ("gives_a_dataset", ["takes the function that builds the dataset"]),
        ("gives_a_generator", ["from_generator", "own.py:"]),
        ("gives_what_json_cannot_hold", ["the parameter fill of shuffled is nan", "JSON"]),
        ("gives_the_same_object", ["same object twice"]),
        ("looks_ahead", ["the generator _ahead asked", "again", "session.ends_epoch"]),
        ("takes_pairs", ["its second batch before anything was done with the first"]),
        ("fits_by_keras", ["read ahead of the steps", "session.fit(model"]),
        ("fits_with_a_csv_log", ["CSVLogger", "leave it out"]),
        ("fits_a_model_with_its_own_fit", ["Mine has a fit of its own"]),
        ("absent", ["trainFunction", "two_optimizers"]),
    ],
)
def test_a_program_that_could_not_go_on_exactly_is_refused_before_its_first_commit(
    function: str, words: list[str], make_job: MakeJob
) -> None:
    job = job_of(make_job, function)
    assert job.run() == ExitCode.PERMANENT, job.log[-3000:]
    for word in words:
        assert word in job.final_record["message"]
    assert not job.directory.commit_ids()


def test_a_generator_may_pass_the_batches_on(make_job: MakeJob) -> None:
    whole, killed = job_of(make_job, "passes_on"), job_of(make_job, "passes_on")
    whole.run_to_end()
    killed.run_to_end(Kill("step", 7, TERM), Kill("step", 9))
    assert killed.outcome() == whole.outcome()


def test_steps_cannot_be_called_twice(make_job: MakeJob) -> None:
    job = job_of(make_job, "steps_twice")
    assert job.run() == ExitCode.PERMANENT
    assert "a second time" in job.final_record["message"]


def test_a_loop_that_is_left_has_not_completed_the_job(make_job: MakeJob) -> None:
    job = job_of(make_job, "leaves_the_loop")
    assert job.run() == ExitCode.USER_ERROR
    assert "left at step 7" in job.final_record["message"]
    assert "session.stop()" in job.final_record["message"]
    assert not job.last_manifest.complete


@pytest.mark.parametrize("step", [0, 4, 16, 38])
def test_a_stop_may_be_followed_by_a_break(step: int, make_job: MakeJob) -> None:
    job = job_of(make_job, "stops_and_leaves", trainParams={"step": step})
    job.run_to_end(*([Kill("step", 9, TERM)] if step > 9 else []))
    assert job.last_manifest.step == step + 1
    assert len(job.outcome()[2]) == step + 1
    assert job.run() == ExitCode.COMPLETED
    assert not job.directory.ledger_segment(job.attempts).exists()


def test_a_stop_takes_no_step_for_a_program_that_does_not(make_job: MakeJob) -> None:
    job = job_of(make_job, "stops_before_the_loop")
    assert job.run() == ExitCode.USER_ERROR
    assert "left at step 0" in job.final_record["message"]
    assert not job.directory.commit_ids()


@pytest.mark.parametrize("code", [0, 3, "no more disk"])
def test_a_program_that_exits_has_not_completed_the_job_and_what_is_committed_stays(
    code: Any, make_job: MakeJob
) -> None:
    job = job_of(make_job, "exits", trainParams={"step": 7, "code": code})
    assert job.run() == ExitCode.USER_ERROR
    assert f"sys.exit({code!r}) at step 7, before its end" in job.final_record["message"]
    assert (job.last_manifest.step, job.last_manifest.complete) == (5, False)


def test_a_program_may_exit_after_its_training_but_not_with_a_failure(make_job: MakeJob) -> None:
    job = job_of(make_job, "exits", trainParams={"step": -1})
    job.run_to_end()
    assert job.final_record["reason"] == "Completed"
    job.config["builder"]["trainParams"]["code"] = 3
    assert job.run() == ExitCode.USER_ERROR
    assert "sys.exit(3) after the training" in job.final_record["message"]


SCRIPT = """
import os, sys
sys.path.insert(0, {builders!r})
import rtj_trainer

with rtj_trainer.session("run", {end}, seed=7, every_steps=5) as session:
    from own import shuffled, two_optimizers

    session.steps = lambda steps=session.steps: steps(shuffled, batch_size=8)
    two_optimizers(session)
print("after the session")
"""


def test_a_script_needs_no_cluster(make_job: MakeJob) -> None:
    whole, killed = make_job(), make_job()
    for job in (whole, killed):
        write_script(job)
    assert run_script(killed, Kill("step", 7, TERM)) == ExitCode.PREEMPTED
    assert run_script(killed, Kill("step", 12)) == -9
    assert run_script(killed) == run_script(whole) == ExitCode.COMPLETED
    # The commit before that which was due last is certainly durable.
    assert killed.starts[:2] == [0, 7]
    assert killed.starts[2] >= 10
    assert outcome_of(killed) == outcome_of(whole)
    assert "after the session" in killed.log
    before = killed.log.count("trained: [0, 1, 2] 39")
    assert run_script(killed) == ExitCode.COMPLETED
    assert killed.log.count("trained: [0, 1, 2] 39") == before + 1
    assert outcome_of(killed) == outcome_of(whole)


def test_a_script_may_tell_its_end_in_other_words_but_not_an_earlier_one(
    make_job: MakeJob,
) -> None:
    job = make_job()
    write_script(job)
    assert run_script(job) == ExitCode.COMPLETED
    outcome = outcome_of(job)
    for end in ("total_steps=39", "epochs=3"):
        write_script(job, end)
        trained = job.log.count("trained: [0, 1, 2] 39")
        assert run_script(job) == ExitCode.COMPLETED, job.log[-3000:]
        assert job.log.count("trained: [0, 1, 2] 39") == trained + 1
        assert outcome_of(job) == outcome
    for end, step in [("epochs=2", 26), ("total_steps=38", 38)]:
        write_script(job, end)
        assert run_script(job) == ExitCode.PERMANENT
        assert "InvalidSpec: the job was complete at step 39 with" in job.log
        assert f"would end it at step {step}. Go back" in job.log


@pytest.mark.parametrize(
    ("exits", "code", "reason"),
    [
        ("    exit(session, 7)", ExitCode.USER_ERROR, "exit 1 TrainerFailed: the program called"),
        ("    exit(session, -1)", ExitCode.COMPLETED, "exit 0 Completed: job complete at step 39"),
    ],
    ids=["early", "after-the-training"],
)
def test_a_script_that_exits_says_how_it_ended(
    exits: str, code: int, reason: str, make_job: MakeJob
) -> None:
    job = make_job()
    write_script(job)
    script = job.folder / "script.py"
    own = "    from own import exits as exit\n    session.steps = "
    source = script.read_text().replace("    two_optimizers(session)", exits)
    script.write_text(source.replace("    session.steps = ", own))
    assert run_script(job) == code, job.log[-3000:]
    assert reason in job.log
    assert "after the session" not in job.log


def write_script(job: Job, end: str = "epochs=3") -> None:
    source = SCRIPT.format(builders=str(BUILDERS), end=end)
    (job.folder / "script.py").write_text(source)


def run_script(job: Job, kill: Kill | None = None) -> int:
    return job.server.run(
        {
            "log": str(job.folder / "log"),
            "kill": kill.__dict__ if kill else None,
            "script": str(job.folder / "script.py"),
            "folder": str(job.folder),
            "env": {},
        }
    )


def outcome_of(job: Job) -> Any:
    return outcome_at(JobDirectory(job.folder / "run" / "local"))
