"""Callbacks and validation: whatever is killed, each takes place once in the committed history.

The jobs have 5 epochs of 5 batches and commit every 3 steps. The recorder keeps every call with
what it was given, also a digest of the weights; it is part of the state that is compared.
"""

import json
import math
import sys
from functools import cache
from typing import Any

import keras
import pytest
from rtj_api.names import ExitCode
from rtj_trainer.callbacks import CallbackRunner

from tests.unit.trainer.support import Job, Kill, MakeJob

pytestmark = pytest.mark.unit

TERM = "SIGTERM"
STOP = Kill("step", 4, TERM)
"""A stop with a commit, so that what follows is after a restart."""
EVALUATED = {"validationFunction": "validation"}
SMALL = {"modelFunction": "small_model"}


def job_of(make_job: MakeJob, callbacks: str | None, **changes: Any) -> Job:
    job = make_job(
        module="watched",
        **{"datasetFunction": "known", "callbacksFunction": callbacks, "epochs": 5, **changes},
    )
    job.config["checkpoint"]["everySteps"] = 3
    return job


def calls_of(job: Job) -> list[Any]:
    """Return what the recorder, the last of the callbacks, wrote down."""
    folder = job.directory.commit(job.directory.commit_ids()[-1])
    state = json.loads((folder / "objects.json").read_text())["states"][-1]
    return list(state)


def epoch_ends(job: Job) -> list[int]:
    return [call[1] for call in calls_of(job) if call[0] == "epoch end"]


@pytest.fixture(scope="module")
def reference(make_job: MakeJob) -> Any:
    @cache
    def outcome(callbacks: str, dataset: str) -> Any:
        job = job_of(make_job, callbacks, datasetFunction=dataset, **EVALUATED)
        job.run_to_end()
        assert epoch_ends(job) == list(range(5))
        return job.outcome()

    return outcome


@pytest.mark.parametrize(
    ("callbacks", "dataset", "kills"),
    [
        pytest.param(
            "several",
            "known",
            [
                STOP,
                Kill("epoch-end", 2),  # between the end of an epoch and its commit
                Kill("validation-batch", 7),  # in the second validation
                Kill("step", 9),  # in an epoch
            ],
            id="killed",
        ),
        pytest.param(
            "several",
            "unknown",
            [
                Kill("step", 5, TERM),  # after the last step of an epoch
                Kill("validation-batch", 3),  # in its validation, the first
                Kill("validation-batch", 7, TERM),  # in that of the second epoch, at step 10
                Kill("step", 2),
                Kill("epoch-end", 2, TERM),  # of the third epoch; that of the second comes first
                Kill("epoch-begin", 1),  # of the fifth
                Kill("validation-batch", 8, TERM),  # the last batch of the last validation
                Kill("train-end"),
            ],
            id="asked-to-stop-and-killed",
        ),
        pytest.param("scheduled", "known", [STOP, Kill("epoch-begin", 2)], id="scheduled"),
    ],
)
def test_a_killed_job_makes_the_same_calls_with_the_same_results(
    callbacks: str, dataset: str, kills: list[Kill], make_job: MakeJob, reference: Any
) -> None:
    job = job_of(make_job, callbacks, datasetFunction=dataset, **EVALUATED)
    job.run_to_end(*kills)
    assert job.outcome() == reference(callbacks, dataset)


def test_callbacks_are_called_when_fit_would_call_them(make_job: MakeJob) -> None:
    job = job_of(make_job, "recorder", epochs=2, **SMALL)
    job.run_to_end(STOP)
    batches = [[name, n] for n in range(5) for name in ("batch begin", "batch end")]
    epochs = [[["epoch begin", n], *batches, ["epoch end", n]] for n in range(2)]
    expected = [["train begin"], *(call for epoch in epochs for call in epoch), ["train end", None]]
    assert [call[:2] for call in calls_of(job)] == expected


class AtTheEnd(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds to the results of an epoch, and notes what it is given at the end of the job."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["learning_rate"] = 0.5

    def on_train_end(self, logs: Any = None) -> None:
        sys.stdout.write(f"{logs}\n")


def runner_of(callback: Any) -> CallbackRunner:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return CallbackRunner([callback], model, {})


def test_the_end_of_a_job_is_told_the_results_of_the_last_whole_epoch_after_a_restart_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, after = runner_of(AtTheEnd()), runner_of(AtTheEnd())
    before.train_end({"loss": 3.0})
    before.epoch_end(0, {"loss": 2.0, "val_loss": math.nan})
    arrays: dict[str, Any] = {}
    after.restore(json.loads(json.dumps(before.capture(arrays))), arrays)
    after.train_end({"loss": 1.0})
    assert capsys.readouterr().out == "{'loss': 3.0}\n{'loss': 2.0, 'val_loss': nan}\n"


def test_a_commit_without_the_results_of_an_epoch_is_restored_with_the_same_hash() -> None:
    runner = runner_of(AtTheEnd())
    old = {"stopTraining": False, "logs": {"dict": []}, "states": [None]}
    runner.epoch_end(0, {"loss": 2.0})
    runner.restore(old, {})
    assert runner.capture({}) == old


def test_validation_does_not_change_what_is_trained(make_job: MakeJob) -> None:
    trained = []
    for function in ("validation", None):
        job = job_of(make_job, "recorder", validationFunction=function)
        job.run_to_end()
        ends = [call for call in calls_of(job) if call[0] == "epoch end"]
        keys = {key for pairs in ends for key, _ in pairs[2]["dict"]}
        assert ("val_loss" in keys) is (function is not None)
        assert calls_of(job)[-1][:3] == ["train end", None, ends[-1][2]]
        trained.append(
            [
                (number, digest, [pair for pair in logs["dict"] if not pair[0].startswith("val_")])
                for _, number, logs, digest in ends
            ]
        )
    assert trained[0] == trained[1]


@pytest.mark.parametrize("restore", [False, True])
def test_a_job_that_a_callback_stops_is_complete_and_stops_there_again(
    restore: bool, make_job: MakeJob
) -> None:
    outcomes = []
    # What else the callback keeps is the same, whether it restores weights or not.
    between = [Kill("epoch-end", 2), Kill("epoch-end", 1)] if restore else []
    for kills in ([], [STOP, *between, Kill("train-end")]):
        job = job_of(
            make_job,
            "early",
            callbacksParams={"restore": restore},
            datasetFunction="unknown",
            **EVALUATED,
        )
        job.run_to_end(*kills)
        assert job.last_manifest.step == 15
        assert job.last_manifest.stopped_early
        outcomes.append(job.outcome())
    assert outcomes[0] == outcomes[1]
    assert job.run() == ExitCode.COMPLETED
    assert not job.directory.ledger_segment(job.attempts).exists()
    assert "was complete at step 15 already" in job.log


def test_a_callback_may_stop_a_job_within_an_epoch(make_job: MakeJob) -> None:
    outcomes = []
    for kills in ([], [Kill("validation-batch", 12, TERM)]):
        job = job_of(make_job, "within_an_epoch", **SMALL, **EVALUATED)
        job.run_to_end(*kills)
        assert job.last_manifest.step == 12
        assert epoch_ends(job) == [0, 1, 2]
        outcomes.append(job.outcome())
    assert outcomes[0] == outcomes[1]


def test_a_callback_may_stop_a_job_before_it_begins_and_fit_takes_a_step_nevertheless(
    make_job: MakeJob,
) -> None:
    outcomes = []
    for kills in ([], [Kill("train-end")]):
        job = job_of(make_job, "at_once", **SMALL, **EVALUATED)
        job.run_to_end(*kills, goes_on=False)  # It is at its end before its first commit.
        outcomes.append(job.outcome())
    assert outcomes[0] == outcomes[1]
    expected = [["epoch begin", 0], ["batch begin", 0], ["batch end", 0], ["epoch end", 0]]
    assert [call[:2] for call in calls_of(job)] == [["train begin"], *expected, ["train end", None]]
    assert job.last_manifest.stopped_early
    assert job.run() == ExitCode.COMPLETED
    assert "was complete at step 1 already" in job.log


def test_the_best_model_is_kept_over_restarts(make_job: MakeJob) -> None:
    best = []
    for kills in ([], [STOP, Kill("epoch-end", 2), Kill("epoch-end", 2)]):
        job = job_of(make_job, "best", **SMALL, **EVALUATED)
        path = job.folder / "best.keras"
        job.config["builder"]["callbacksParams"] = {"path": str(path)}
        job.run_to_end(*kills)
        assert path.exists()
        folder = job.directory.commit(job.directory.commit_ids()[-1])
        best.append(json.loads((folder / "objects.json").read_text())["states"][0])
    assert best[0] == best[1]


def test_what_a_training_step_returns_is_given_to_callbacks_after_a_restart_too(
    make_job: MakeJob,
) -> None:
    outcomes = []
    for kills in ([], [Kill("step", 5, TERM)]):
        job = job_of(make_job, "recorder", modelFunction="own_step", epochs=2)
        job.run_to_end(*kills)
        outcomes.append(job.outcome())
    assert outcomes[0] == outcomes[1]
    assert [[key for key, _ in call[2]["dict"]] for call in calls_of(job) if call[0] == "epoch end"]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"trained": "text"}, ["the model's training step returns 'note'", "of type string"]),
        ({"trained": "texts"}, ["returns 'notes'", "of type string"]),
        ({"trained": "sparse"}, ["returns 'rows'", "a SparseTensor"]),
        ({"trained": "complex"}, ["returns 'phase'", "of type complex64"]),
        ({"tested": "text"}, ["the model's test step returns 'note'", "of type string"]),
    ],
)
def test_a_step_that_returns_what_no_commit_can_hold_is_refused_before_step_0(
    params: dict[str, str], words: list[str], make_job: MakeJob
) -> None:
    job = job_of(make_job, None, modelFunction="tells", modelParams=params, **EVALUATED)
    assert job.run() == ExitCode.PERMANENT, job.log[-2000:]
    for word in words:
        assert word in job.final_record["message"]
    assert not job.directory.commit_ids()


def test_a_step_may_return_any_numbers(make_job: MakeJob) -> None:
    told = {"trained": "numbers", "tested": "numbers"}
    outcomes = []
    for kills in ([], [STOP, Kill("epoch-end", 1), Kill("step", 5)]):
        job = job_of(make_job, "recorder", modelFunction="tells", modelParams=told, **EVALUATED)
        job.run_to_end(*kills)
        outcomes.append(job.outcome())
    assert outcomes[0] == outcomes[1]


def test_metrics_are_reset_as_the_model_says(make_job: MakeJob) -> None:
    job = job_of(make_job, "recorder", modelFunction="counting", epochs=2, **EVALUATED)
    job.run_to_end(STOP)
    ends = [dict(call[2]["dict"]) for call in calls_of(job) if call[0] == "epoch end"]
    assert [(end["batches"], end["val_batches"]) for end in ends] == [(5, 4), (5, 4)]


def test_a_builder_that_exits_has_not_completed_the_job(make_job: MakeJob) -> None:
    job = job_of(make_job, None, modelFunction="exiting")
    assert job.run() == ExitCode.USER_ERROR
    assert "SystemExit" in job.final_record["message"]
    assert "sys.exit()" in job.final_record["message"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("counts", ["Counts", "sets the attribute count", "get_state(self)"]),
        ("appends", ["uses SEEN, which is a list", "get_state(self)"]),
        ("sets_item", ["sets an item of self.params", "get_state(self)"]),
        ("changes_model", ["uses losses_seen of the model, which is a TrackedList"]),
        ("imports", ["uses other.SEEN, which is a list"]),
        ("imports_from", ["uses SEEN, which is a list"]),
        ("imports_first", ["uses late, which is imported only", "at the top of the file"]),
        ("of_module", ["uses shared.SEEN, which is a list"]),
        ("of_class", ["uses Store.seen, which is a list"]),
        ("by_clock", ["sets stop_training by the clock (time)"]),
        ("forgets", ["gives it another state"]),
        ("hides", ["Hides", "Generator", "must be None, a bool, a number"]),
        ("tested", ["on_test_end", "use on_epoch_end"]),
        ("enclosed", ["sets total of the enclosing function"]),
        ("csv", ["CSVLogger", "leave it out"]),
        ("board", ["TensorBoard", "leave it out"]),
        ("extends", ["Mine", "get_state(self)"]),
        ("reseeds", ["Reseeds", "watched.py:", "keras.utils.set_random_seed", "stateless_*"]),
        ("reseeds_by_lambda", ["LambdaCallback", "tf.random.set_seed", "stateless_*"]),
        ("no_callback", ["must return a list of keras.callbacks.Callback"]),
    ],
)
def test_a_callback_that_cannot_be_kept_is_refused_before_step_0(
    name: str, words: list[str], make_job: MakeJob
) -> None:
    is_refused_without_a_commit(name, words, make_job)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reseeds_elsewhere", ["the program seeds or replaces a global generator", "stateless_*"]),
        ("counts_in_the_kernel", ["watched.py:", "draws by tf.random.* with seed=3"]),
    ],
)
def test_a_callback_that_draws_what_no_restart_could_is_refused_before_the_first_commit(
    name: str, words: list[str], make_job: MakeJob
) -> None:
    is_refused_without_a_commit(name, words, make_job)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "counts_in_model",
            ["the variable", "was changed by the steps up to 6", "get_state(self)"],
        ),
        ("draws_from_model", ["the variable", "was changed by the steps up to 6", "SeedGenerator"]),
        ("makes_variable", ["the variable", "was made during the steps up to 6"]),
    ],
)
def test_a_variable_that_only_callbacks_change_is_refused_before_a_commit_without_it(
    name: str, words: list[str], make_job: MakeJob
) -> None:
    job = refused(name, words, make_job)
    assert [commit.step for commit in job.directory.commit_ids()] == [3]


def test_a_variable_whose_value_a_callback_tells_is_its_own_business(make_job: MakeJob) -> None:
    outcomes = []
    for kills in ([], [STOP, Kill("epoch-end", 2)]):
        job = job_of(make_job, "counts_in_variable", **SMALL)
        job.run_to_end(*kills)
        assert epoch_ends(job) == [0, 1, 2]
        outcomes.append(job.outcome())
    assert outcomes[0] == outcomes[1]


def is_refused_without_a_commit(name: str, words: list[str], make_job: MakeJob) -> None:
    assert not refused(name, words, make_job).directory.commit_ids()


def refused(name: str, words: list[str], make_job: MakeJob) -> Job:
    job = job_of(
        make_job,
        "refused",
        callbacksParams={"name": name},
        modelFunction="build_with_attributes",
    )
    assert job.run() == ExitCode.PERMANENT, job.log[-2000:]
    for word in words:
        assert word in job.final_record["message"]
    return job


def test_a_validation_may_draw_with_a_seed_of_its_own(make_job: MakeJob) -> None:
    outcomes = []
    for kills in ([], [STOP, Kill("validation-batch", 7)]):
        validation = {"validationFunction": "seeded_validation"}
        job = job_of(make_job, "recorder", epochs=2, **SMALL, **validation)
        job.run_to_end(*kills)
        outcomes.append(job.outcome())
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("endless", ["it never ends", "drop the repeat()"]),
        ("empty", ["it is empty", "validationParams"]),
        ("impure", ["numpy_function", "TensorFlow operations"]),
        ("another_each_time", ["two calls", "different pipelines"]),
        ("valid", ["validationFunction", "it has", "validation"]),
    ],
)
def test_a_validation_that_is_another_each_time_is_refused_before_step_0(
    function: str, words: list[str], make_job: MakeJob
) -> None:
    job = job_of(make_job, None, validationFunction=function, **SMALL)
    assert job.run() == ExitCode.PERMANENT, job.log[-2000:]
    for word in words:
        assert word in job.final_record["message"]


def test_a_job_whose_end_changed_the_weights_cannot_be_made_longer(make_job: MakeJob) -> None:
    job = make_job(module="states", modelFunction="moving_average", epochs=1)
    job.run_to_end()
    assert job.last_manifest.altered_at_end
    assert job.run(epochs=2) == ExitCode.PERMANENT
    assert "use_ema=True" in job.final_record["message"]
