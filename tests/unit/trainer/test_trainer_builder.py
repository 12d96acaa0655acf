"""What a new user gets wrong ends with a code and a sentence that says what to mend."""

import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rtj_api.launch import BuilderConfig
from rtj_api.names import ExitCode
from rtj_trainer.builder import source_files

from tests.unit.trainer.support import BUILDERS, Job, Kill, MakeJob

pytestmark = pytest.mark.unit

GOOD = (BUILDERS / "builder.py").read_text()


def replaced(before: str, after: str) -> str:
    assert before in GOOD
    return GOOD.replace(before, after)


CASES: list[Any] = [
    pytest.param(
        "def build_dataset(:\n",
        {},
        ("BuilderInvalid", ["builder.py:1", "invalid syntax"]),
        id="syntax-error",
    ),
    pytest.param(
        GOOD,
        {"module": "bilder"},
        ("BuilderInvalid", ["spec.builder.module", "'bilder'", "which has builder"]),
        id="unknown-module",
    ),
    pytest.param(
        "import pandaz\n",
        {},
        ("BuilderInvalid", ["imports 'pandaz'", "not in the image"]),
        id="missing-dependency",
    ),
    pytest.param(
        GOOD,
        {"datasetFunction": "by_idx"},
        ("FunctionNotFound", ["datasetFunction", "'by_idx'", "by_index", "shuffled"]),
        id="unknown-dataset-function",
    ),
    pytest.param(
        GOOD,
        {"modelFunction": "model"},
        ("FunctionNotFound", ["modelFunction", "build_model"]),
        id="unknown-model-function",
    ),
    pytest.param(
        GOOD,
        {"datasetParams": {"batchsize": 3}},
        ("ParamsInvalid", ["datasetParams", "'batchsize'", "batch_size: int = 8"]),
        id="unknown-parameter",
    ),
    pytest.param(
        GOOD,
        {"datasetFunction": "csv"},
        ("ParamsInvalid", ["missing a required argument: 'path'"]),
        id="missing-parameter",
    ),
    pytest.param(
        GOOD,
        {"datasetParams": {"batch_size": "8"}},
        ("ParamsInvalid", ["datasetParams.batch_size", "wants int", "str '8'"]),
        id="parameter-of-another-type",
    ),
    pytest.param(
        GOOD,
        {"modelParams": {"units": True}},
        ("ParamsInvalid", ["modelParams.units", "wants int", "bool True"]),
        id="model-parameter-of-another-type",
    ),
    pytest.param(
        "def by_index(): return 3\ndef build_model(): return 4\n",
        {},
        ("BuilderInvalid", ["must return a tf.data.Dataset, not int"]),
        id="no-dataset",
    ),
    pytest.param(
        GOOD + "\ndef build_model(): return 'm'\n",
        {},
        ("BuilderInvalid", ["must return a compiled keras.Model, not str"]),
        id="no-model",
    ),
    pytest.param(
        GOOD + "\ndef build_model(): return keras.Sequential([keras.layers.Dense(1)])\n",
        {},
        ("BuilderInvalid", ["spec.builder.modelFunction must", "call model.compile"]),
        id="model-not-compiled",
    ),
]


@pytest.mark.parametrize(("source", "changes", "expected"), CASES)
def test_a_wrong_builder_is_permanent_and_says_what_to_mend(
    source: str, changes: dict[str, Any], expected: tuple[str, list[str]], make_job: MakeJob
) -> None:
    job = make_job(source, **{"datasetFunction": "by_index", **changes})
    assert job.run() == ExitCode.PERMANENT, job.log
    record = job.final_record
    assert record["reason"] == expected[0]
    for word in expected[1]:
        assert word in record["message"]
    assert not job.directory.commit_ids()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            "0.01 * keras.random.normal(keras.ops.shape(inputs))",
            "tf.random.normal(tf.shape(inputs))",
            ["RandomStandardNormal", "SeedGenerator"],
        ),
        ("jit_compile=jit_compile", "run_eagerly=True", ["run_eagerly=True"]),
    ],
    ids=["tf-random-in-the-step", "eager"],
)
def test_a_model_with_hidden_state_is_refused(
    before: str, after: str, words: list[str], make_job: MakeJob
) -> None:
    job = make_job(replaced(before, after), datasetFunction="by_index")
    assert job.run() == ExitCode.PERMANENT
    assert job.final_record["reason"] == "PipelineNotResumable"
    for word in words:
        assert word in job.final_record["message"]


@pytest.mark.parametrize(
    ("source", "reason", "words"),
    [
        (
            "raise OSError('disk is away')\n",
            "BuilderFailed",
            ["spec.builder.module", "OSError: disk is away", "line 1"],
        ),
        (
            "def by_index():\n    return open('/nowhere.csv')\ndef build_model(): pass\n",
            "BuilderFailed",
            ["by_index() raised FileNotFoundError", "/nowhere.csv", "line 2"],
        ),
        (
            replaced("keras.Input((3,)),", "keras.Input((4,)),"),
            "TrainerFailed",
            ["cannot be traced", "shape"],
        ),
    ],
    ids=["module-raises", "function-raises", "model-does-not-fit"],
)
def test_a_builder_that_raises_is_a_user_error_that_may_be_retried(
    source: str, reason: str, words: list[str], make_job: MakeJob
) -> None:
    job = make_job(source, datasetFunction="by_index")
    assert job.run() == ExitCode.USER_ERROR, job.log
    assert job.final_record["reason"] == reason
    for word in words:
        assert word in job.final_record["message"]


def test_a_parameter_that_only_the_function_finds_wrong_is_named_with_its_value(
    make_job: MakeJob,
) -> None:
    source = "def by_size(size):\n    return size + 1\ndef build_model(): pass\n"
    job = make_job(source, datasetFunction="by_size", datasetParams={"size": "5"})
    assert job.run() == ExitCode.USER_ERROR
    message = job.final_record["message"]
    assert message.startswith("spec.builder.datasetParams: by_size(size='5') raised TypeError")
    assert "Correct the builder, or spec.builder.datasetParams." in message


def test_a_builder_in_the_image_is_imported_from_there(make_job: MakeJob) -> None:
    functions = {"datasetFunction": "by_index", "modelFunction": "small_model"}
    job = make_job(path=None, module="in_the_image", epochs=1, **functions)
    assert job.run() == ExitCode.PERMANENT
    assert "no module 'in_the_image' in the image" in job.final_record["message"]
    installed = job.folder / "installed"
    installed.mkdir()
    (installed / "in_the_image.py").write_text(GOOD)
    job.patches.append(job.folder / "install.py")
    job.patches[0].write_text(f"import sys\nsys.path.append({str(installed)!r})\n")
    assert job.run(Kill("step", 8, "SIGTERM")) == ExitCode.PREEMPTED
    (installed / "in_the_image.py").write_text(GOOD + "\nLATER = True\n")
    assert job.run() == ExitCode.PERMANENT
    assert "in_the_image" in job.final_record["message"]
    (installed / "in_the_image.py").write_text(GOOD)
    job.run_to_end()


def test_data_that_fails_in_the_middle_is_a_user_error_and_keeps_its_commits(
    make_job: MakeJob,
) -> None:
    source = (
        GOOD
        + """

def failing():
    data = tf.data.Dataset.range(100).batch(8)
    return data.map(lambda n: _features(n + 0 * tf.gather(tf.range(90, dtype=tf.int64), n)))
"""
    )
    job = make_job(source, datasetFunction="failing", modelFunction="small_model")
    assert job.run() == ExitCode.USER_ERROR
    assert job.final_record["reason"] == "TrainerFailed"
    assert "is not in [0, 90)" in job.final_record["message"]
    assert job.last_manifest.step == 10


def test_a_configuration_that_is_not_valid_names_the_field(make_job: MakeJob) -> None:
    job = make_job()
    assert job.run(epochs="many") == ExitCode.PERMANENT
    assert job.final_record["reason"] == "InvalidSpec"
    assert "epochs" in job.final_record["message"]


def test_a_volume_that_cannot_be_written_is_a_user_error(make_job: MakeJob) -> None:
    job = make_job()
    (job.folder / "volume").rmdir()
    (job.folder / "volume").write_text("a file is in the way")
    assert job.run() == ExitCode.USER_ERROR
    assert job.final_record["reason"] == "VolumeUnusable"


def test_a_full_volume_skips_a_commit_and_training_goes_on(make_job: MakeJob) -> None:
    job = make_job(datasetFunction="by_index", modelFunction="small_model")
    full_at(job, 10)
    job.run_to_end()
    assert "commit at step 10 was skipped: the volume is full" in job.log
    assert [found.step for found in job.directory.commit_ids()] == [30, 35, 39]
    assert not job.directory.temporary_folders()


def test_a_stop_whose_commit_failed_names_the_last_one(make_job: MakeJob) -> None:
    job = make_job(datasetFunction="by_index", modelFunction="small_model")
    full_at(job, 12)
    assert job.run(Kill("step", 12, "SIGTERM")) == ExitCode.PREEMPTED
    told = "stopped at step 12, the last commit is 000000000010-000001"
    assert job.final_record["message"] == told


def full_at(job: Job, step: int) -> None:
    """Let the volume be full when this step is committed."""
    patch = job.folder / "full.py"
    patch.write_text(
        "from rtj_trainer import files\n"
        "original = files.fsync_file\n"
        "def full(path):\n"
        f"    if '{step:012d}' in str(path):\n"
        "        raise OSError(28, 'No space left on device')\n"
        "    original(path)\n"
        "files.fsync_file = full\n"
    )
    job.patches.append(patch)


@pytest.mark.parametrize("spelling", ["", "./", "/"], ids=["plain", "dotted", "doubled"])
def test_a_virtual_environment_beside_the_program_is_none_of_its_files(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "venv" / "site-packages"
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(installed))
    places = {
        "installed": f"{tmp_path}/venv/{spelling}site-packages/installed.py",
        "below": f"{installed}/package/{spelling}below.py",
        "beside": f"{tmp_path}/{spelling}beside.py",
        "alike": f"{installed}-of-mine/alike.py",
    }
    modules = {name: ModuleType(name) for name in places}
    for name, module in modules.items():
        module.__file__ = places[name]
        monkeypatch.setitem(sys.modules, name, module)
    config = BuilderConfig.model_construct(path=tmp_path, module="beside")
    assert list(source_files(config, modules["beside"])) == ["alike", "beside"]
