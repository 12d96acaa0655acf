"""A job whose code, data or versions changed is refused, or warned, or goes on."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rtj_api.fingerprint import FingerprintPolicy, OnChange
from rtj_api.names import ExitCode
from rtj_trainer import data_files
from rtj_trainer.commits.layout import JobDirectory
from rtj_trainer.data_files import look_at
from rtj_trainer.errors import PermanentError
from rtj_trainer.fingerprint import Fingerprint, check
from rtj_trainer.imports import not_compared
from rtj_trainer.joining import Attempt

from tests.unit.trainer.support import Job, Kill, MakeJob

pytestmark = pytest.mark.unit

BUILDER = """
import keras
import tensorflow as tf
from rtj_trainer.data import indexed

def build_dataset(path: str):
    data = tf.constant([float(line) for line in open(path)])
    return indexed(20, 4).map(lambda numbers: (tf.gather(data, numbers)[:, None] * 0, numbers))

def build_model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    return model
"""


@pytest.fixture
def stopped(make_job: MakeJob) -> tuple[Job, Path]:
    """A job that was stopped after 7 steps, and its data file."""
    job = make_job(BUILDER)
    data = job.folder / "data.txt"
    data.write_text("1\n" * 100)
    job.config["builder"]["datasetParams"] = {"path": str(data)}
    assert job.run(Kill("step", 7, "SIGTERM")) == ExitCode.PREEMPTED, job.log
    return job, data


def test_a_file_that_was_exchanged_is_refused_with_its_name_unless_that_is_allowed(
    stopped: tuple[Job, Path],
) -> None:
    job, data = stopped
    # Beyond what the builder reads from, so that nothing else changes.
    data.write_text("1\n" * 100 + "\n".join(["1"] * 3))
    source = job.folder / "builder" / "builder.py"
    source.write_text(source.read_text().replace("open(path)]", "open(path)][:100]"))
    assert job.run() == ExitCode.PERMANENT
    message = job.final_record["message"]
    assert "the builder's source (builder: " in message
    assert f"data files ({data}: 200 bytes" in message
    assert job.run(fingerprintPolicy={"files": "Warn", "source": "Ignore"}) == ExitCode.COMPLETED
    assert f"since the last commit these changed: data files ({data}" in job.log


HARD_CODED = """
import keras
import tensorflow as tf

def build_dataset():
    return tf.data.experimental.make_csv_dataset(
        FILE, 4, label_name="y", num_epochs=1, shuffle=False
    ).map(lambda x, y: (tf.cast(x["x"], tf.float32), y))

def evaluated():
    lines = tf.data.TextLineDataset(FILE).skip(1).batch(4)
    return lines.map(lambda line: (tf.strings.to_number(tf.strings.substr(line, 0, 1)), 1.0))

def constant():
    return tf.data.Dataset.range(20).map(lambda n: (tf.cast(n, tf.float32), 1.0)).batch(4)

def build_model():
    model = keras.Sequential([keras.Input([]), keras.layers.Reshape([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    return model
"""


@pytest.mark.parametrize(
    "functions",
    [
        {"datasetFunction": "build_dataset"},
        {"datasetFunction": "constant", "validationFunction": "evaluated"},
    ],
    ids=["dataset", "validation"],
)
def test_a_file_that_only_the_builder_names_is_refused_once_it_is_exchanged(
    functions: dict[str, str], make_job: MakeJob, tmp_path: Path
) -> None:
    data = tmp_path / "data.csv"
    data.write_text("x,y\n" + "1,2\n" * 20)
    job = make_job(f"FILE = {str(data)!r}\n{HARD_CODED}", **functions)
    assert job.run(Kill("step", 7, "SIGTERM")) == ExitCode.PREEMPTED, job.log
    data.write_text("x,y\n" + "1,2\n" * 19 + "1,3\n")
    assert job.run() == ExitCode.PERMANENT
    assert job.final_record["reason"] == "FingerprintMismatch"
    assert f"data files ({data}: 84 bytes, " in job.final_record["message"]
    data.write_text("x,y\n" + "1,2\n" * 20)
    job.run_to_end()


def test_a_file_that_only_the_model_gets_is_refused_once_it_is_exchanged(
    make_job: MakeJob, tmp_path: Path
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    source = BUILDER.replace("def build_model():", "def build_model(words):")
    job = make_job(source, modelParams={"words": str(words)})
    data = tmp_path / "data.txt"
    data.write_text("1\n" * 20)
    job.config["builder"]["datasetParams"] = {"path": str(data)}
    assert job.run(Kill("step", 7, "SIGTERM")) == ExitCode.PREEMPTED, job.log
    words.write_text("b\na\n")
    assert job.run() == ExitCode.PERMANENT
    assert f"data files ({words}: 4 bytes, " in job.final_record["message"]


def test_another_version_of_tensorflow_is_warned_of(stopped: tuple[Job, Path]) -> None:
    job, _ = stopped
    patch = job.folder / "version.py"
    patch.write_text("import tensorflow as tf\ntf.__version__ = '2.99.0'\n")
    job.patches = [patch]
    assert job.run(fingerprintPolicy={"versions": "Refuse"}) == ExitCode.PERMANENT
    assert "versions or machine (tensorflow: " in job.final_record["message"]
    assert job.run() == ExitCode.COMPLETED
    assert "-> 2.99.0" in job.log


@pytest.mark.parametrize("key", ["step", "captured"])
@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"keras": "3.1"}, {"keras": "3.2"}, "keras: 3.1 -> 3.2"),
        ({"accelerators": ["L4"]}, {"accelerators": []}, r"accelerators: ['L4'] -> []"),
    ],
    ids=["Keras", "no GPU"],
)
def test_a_step_that_other_versions_or_devices_write_otherwise_goes_on_with_a_warning(
    before: dict[str, Any], after: dict[str, Any], words: str, key: str
) -> None:
    saved = Fingerprint({key: "a", "seed": 1}, before)
    newer = Fingerprint({key: "b", "seed": 1}, after)
    warning = check(saved, newer, FingerprintPolicy())
    assert warning
    assert words in warning
    assert "step" not in warning
    with pytest.raises(PermanentError, match="the training step"):
        check(saved, Fingerprint(newer.identity, saved.environment), FingerprintPolicy())


@pytest.mark.parametrize("key", ["step", "captured"])
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("accelerators", ["NVIDIA L4"], ["NVIDIA H100"]),
        ("libraries", {"cudnn": 90100}, {"cudnn": 90300}),
        ("machine", "x86_64", "aarch64"),
        ("instructions", ["avx2"], ["avx2", "avx512f"]),
        ("intraOpThreads", 2, 4),
    ],
)
def test_another_model_of_a_device_excuses_no_other_step(
    name: str, before: Any, after: Any, key: str
) -> None:
    saved, newer = Fingerprint({key: "a"}, {name: before}), Fingerprint({key: "b"}, {name: after})
    with pytest.raises(PermanentError, match="the training step"):
        check(saved, newer, FingerprintPolicy())
    newer.identity[key] = "a"
    assert check(saved, newer, FingerprintPolicy())


def test_sets_of_instructions_that_came_or_went_are_named() -> None:
    common = ["avx", "avx2", "fma", *(f"avx512{name}" for name in ("bw", "cd", "dq", "f", "vl"))]
    saved = Fingerprint({}, {"instructions": [*common, "avx512_vnni"]})
    newer = Fingerprint({}, {"instructions": [*common, "avx_vnni", "amx_tile"]})
    warning = check(saved, newer, FingerprintPolicy())
    assert warning
    assert "(instructions: no avx512_vnni any more, now amx_tile avx_vnni)" in warning
    fewer = Fingerprint({}, {"instructions": common})
    warning = check(saved, fewer, FingerprintPolicy())
    assert warning
    assert "(instructions: no avx512_vnni any more)" in warning
    with pytest.raises(PermanentError, match="no avx512_vnni any more"):
        check(saved, fewer, FingerprintPolicy(versions=OnChange.REFUSE))


def test_what_the_environment_of_a_commit_does_not_tell_is_not_compared() -> None:
    saved = Fingerprint({"step": "a"}, {"keras": "3.1"})
    newer = Fingerprint({"step": "a"}, {"keras": "3.1", "instructions": ["avx"], "XLA_FLAGS": None})
    assert check(saved, newer, FingerprintPolicy(versions=OnChange.REFUSE)) is None


@pytest.mark.parametrize("answer", OnChange)
def test_other_times_of_files_are_never_refused(answer: OnChange) -> None:
    before, after = (Fingerprint({"fileTimes": {"a": time}}, {}) for time in (1, 2))
    warning = check(before, after, FingerprintPolicy(files=answer))
    assert (warning is None) is (answer is OnChange.IGNORE)


NEW_ATTRIBUTE = """
import tensorflow as tf
from rtj_trainer.preflight import identity
tf.__version__ = {version!r}
graph = identity._Hasher.graph
identity._Hasher.graph = lambda self: "new" + graph(self)
"""


def test_pipelines_that_another_version_of_tensorflow_writes_otherwise_go_on_with_a_warning(
    make_job: MakeJob,
) -> None:
    import tensorflow as tf

    functions = {"datasetFunction": "constant", "validationFunction": "constant"}
    job = make_job(HARD_CODED, **functions)
    assert job.run(Kill("step", 7, "SIGTERM")) == ExitCode.PREEMPTED, job.log
    job.patches = [job.folder / "version.py"]
    job.patches[0].write_text(NEW_ATTRIBUTE.format(version=tf.__version__))
    assert job.run() == ExitCode.PERMANENT
    assert "the tf.data pipeline that the builder returns" in job.final_record["message"]
    job.patches[0].write_text(NEW_ATTRIBUTE.format(version="2.99.0"))
    assert job.run() == ExitCode.COMPLETED, job.log[-3000:]
    assert "-> 2.99.0" in job.log


@pytest.mark.parametrize("key", ["pipeline", "step", "captured"])
@pytest.mark.parametrize("also", ["source", "batch", "files", "shuffleSeeds", "constants"])
def test_a_graph_is_not_excused_by_a_version_if_more_of_it_changed(also: str, key: str) -> None:
    saved = Fingerprint({key: "a", also: 1}, {"tensorflow": "2.21.0"})
    newer = Fingerprint({key: "b", also: 2}, {"tensorflow": "2.22.0"})
    policy = FingerprintPolicy(source=OnChange.IGNORE, files=OnChange.IGNORE)
    with pytest.raises(PermanentError):
        check(saved, newer, policy)
    newer.identity[also] = 1
    assert check(saved, newer, policy)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("batch", "batchFunction or batchParams"),
        ("shuffle", "whether the examples are shuffled"),
        ("validationContents", "the data that rtj_trainer.data reads for the validation"),
        ("constants", "the contents of constants or tables"),
        ("variableNames", "the attributes or names that lead to the variables"),
    ],
)
def test_what_commits_of_older_versions_do_not_tell_is_compared_if_they_do(
    key: str, words: str
) -> None:
    one, other = ({key: {"function": name}} for name in ("flip", "crop"))
    with pytest.raises(PermanentError, match=rf"{words}.* \(function: flip -> crop\)"):
        check(Fingerprint(one, {}), Fingerprint(other, {}), FingerprintPolicy())
    assert check(Fingerprint({}, {}), Fingerprint(other, {}), FingerprintPolicy()) is None


@pytest.mark.parametrize("key", ["pipeline", "validationPipeline", "step", "captured"])
def test_a_version_excuses_no_graph_of_a_builder_that_imports_what_is_not_compared(
    key: str,
) -> None:
    imports = {"imports": ["company"]}
    saved = Fingerprint({key: "a", **imports}, {"tensorflow": "2.21.0"})
    newer = Fingerprint({key: "b", **imports}, {"tensorflow": "2.22.0"})
    with pytest.raises(PermanentError, match=r"imports company, .* Go on with the versions of"):
        check(saved, newer, FingerprintPolicy())
    del newer.identity["imports"]
    assert check(saved, newer, FingerprintPolicy())


def test_modules_of_the_image_are_imported_without_being_compared(tmp_path: Path) -> None:
    path = tmp_path / "builder.py"
    path.write_text("""
import os.path, numpy as np, helper.deep
from tensorflow import keras
from . import beside
def build():
    from company.data import read
""")
    sources = {"builder": path, "native": tmp_path / "native.so"}
    assert not_compared(sources, beside=False) == [".beside", "company", "helper"]
    sources["helper.deep"] = tmp_path / "deep.py"
    sources["helper.deep"].write_text("import importlib")
    assert not_compared(sources, beside=True) == ["company", "importlib"]


def test_a_commit_tells_what_a_builder_in_the_image_imports(tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text("import company")
    config = SimpleNamespace(seed=1, builder=SimpleNamespace(path=None))
    attempt: Any = SimpleNamespace(config=config, job=JobDirectory(tmp_path / "own"))
    assert Attempt.identity(attempt, {"builder": path}, {}, [])["imports"] == ["company"]


def test_another_machine_does_not_excuse_another_pipeline() -> None:
    saved = Fingerprint({"pipeline": "a"}, {"tensorflow": "2.21.0", "machine": "x86_64"})
    newer = Fingerprint({"pipeline": "b"}, {"tensorflow": "2.21.0", "machine": "aarch64"})
    with pytest.raises(PermanentError, match="pipeline that the builder"):
        check(saved, newer, FingerprintPolicy())


def test_a_job_that_did_not_change_goes_on_without_a_word() -> None:
    same = Fingerprint({"seed": 1}, {"keras": "3.1"})
    assert check(same, same, FingerprintPolicy(versions=OnChange.REFUSE)) is None


def test_files_below_a_folder_are_found_but_not_what_trainers_write(tmp_path: Path) -> None:
    JobDirectory(tmp_path / "another").create()
    for folder in ("data/deep", "data/indices", "own", "another/commits", "indices"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "a").write_bytes(b"x")
    params = {"paths": [str(tmp_path)], "optimizer": "adam", "odd": "\0", "long": "x" * 5000}
    found = look_at(params, tmp_path / "own")
    data = tmp_path / "data"
    assert list(found.contents) == [str(data / "deep" / "a"), str(data / "indices" / "a")]
    assert not found.times


def test_a_pattern_names_the_files_that_it_matches(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "test-0", ".train-2"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "train-folder").mkdir()
    before = look_at({"files": f"{tmp_path}/train-*"}, tmp_path / "own").contents
    assert list(before) == [str(tmp_path / "train-0"), str(tmp_path / "train-1")]
    (tmp_path / "train-1").write_bytes(b"y")
    assert look_at({"files": f"{tmp_path}/train-*"}, tmp_path / "own").contents != before


def test_a_url_of_a_local_file_is_its_path(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    for named in (tmp_path / "deep", tmp_path / "b", tmp_path / "*"):
        before = look_at(str(named), tmp_path / "own").contents
        assert before
        for url in (f"file://{named}", f"file://localhost{named}"):
            assert look_at(url, tmp_path / "own").contents == before


def test_data_at_other_urls_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    params = {"train": "gs://bucket/train", "test": "s3://bucket/test", "optimizer": "adam"}
    assert not look_at(params, tmp_path / "own").contents
    assert "names 2 URLs, such as gs://bucket/train; whether data there was exch" in caplog.text


@pytest.mark.parametrize("separator", ["/", "//", "/proc", "/sys/", "/dev"])
def test_a_separator_does_not_name_all_files(
    separator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walk(*_: object, **__: object) -> None:
        raise AssertionError("walked")

    monkeypatch.setattr(os, "walk", walk)
    assert not look_at([{"separator": separator}], tmp_path / "own").contents


def test_folders_that_are_links_are_entered_once(tmp_path: Path) -> None:
    JobDirectory(tmp_path / "another").create()
    (tmp_path / "another" / "attempts" / "000001.json").write_bytes(b"x")
    file = tmp_path / "v1" / "deep" / "a"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    links = {"train": "../v1", "all": "/", "kernel": "/proc", "job": "../another"}
    (tmp_path / "data").mkdir()
    for name, target in links.items():
        (tmp_path / "data" / name).symlink_to(target)
    (tmp_path / "v1" / "circle").symlink_to("../data")
    before = look_at(str(tmp_path / "data"), tmp_path / "own").contents
    assert list(before) == [str(tmp_path / "data" / "train" / "deep" / "a")]
    file.write_bytes(b"y")
    assert look_at(str(tmp_path / "data"), tmp_path / "own").contents != before


def mount(folder: Path, dated: str) -> None:
    """Lay a ConfigMap with the paths labels and sub/labels out as the kubelet does for a pod."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in (folder / dated / "labels", folder / dated / "sub" / "labels"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("cat")
    (folder / "..data").symlink_to(dated)
    for name in ("labels", "sub"):
        (folder / name).symlink_to(f"..data/{name}")


@pytest.mark.parametrize("named", ["", "/*", "/*/*"])
def test_a_config_map_is_the_same_in_each_pod(named: str, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    found = []
    for dated in ("..2026_11_28_17_00_00.123456789", "..2026_11_28_18_30_11.987654321"):
        mount(folder, dated)
        found.append(look_at(f"{folder}{named}", tmp_path / "own").contents)
    assert found[0] == found[1]
    paths = [str(folder / "labels"), str(folder / "sub" / "labels")]
    assert list(found[0]) == {"": paths, "/*": paths[:1], "/*/*": paths[1:]}[named]
    (folder / "..data" / "sub" / "labels").write_text("dog")
    (folder / "..data" / "labels").write_text("dog")
    assert look_at(f"{folder}{named}", tmp_path / "own").contents != found[1]


def test_no_more_names_are_listed_below_a_folder_than_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(data_files, "_LISTED_BELOW", 2)
    for name in ("c", "b", "a"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(b"")
    found = look_at(str(tmp_path), tmp_path / "own").contents
    assert list(found) == [str(tmp_path / "a" / "file"), str(tmp_path / "b" / "file")]
    assert "more than 2 files below" in caplog.text


def test_a_file_that_trainers_write_is_not_data_although_it_is_named(tmp_path: Path) -> None:
    JobDirectory(tmp_path / "another").create()
    names = ["own/a", "another/commits/1/a", "indices/a", "cache/key/a", "data/cache/a"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = look_at([str(tmp_path / name) for name in names], tmp_path / "own")
    assert list(found.contents) == [str(tmp_path / "data" / "cache" / "a")]


def test_a_graph_names_files_patterns_and_folders_that_it_loads(tmp_path: Path) -> None:
    import tensorflow as tf
    from rtj_trainer.preflight.graph import read_graph
    from rtj_trainer.preflight.named import file_names

    file = tmp_path / "lines"
    file.write_text("a\n")
    saved = tmp_path / "saved"
    tf.data.Dataset.range(3).save(str(saved))
    pattern = f"{tmp_path}/in/*"
    texts = tf.data.Dataset.from_tensor_slices([str(tmp_path), "/", "text", f"{tmp_path}/none"])
    lines = tf.data.TextLineDataset(str(file))
    matching = tf.data.Dataset.range(2).map(lambda _: tf.io.matching_files(pattern))
    dataset = tf.data.Dataset.zip(texts, lines, matching, tf.data.Dataset.load(str(saved)))
    assert file_names(read_graph(dataset)) == sorted([str(file), str(saved), pattern])


def test_urls_in_a_graph_are_found() -> None:
    import tensorflow as tf
    from rtj_trainer.preflight.graph import read_graph
    from rtj_trainer.preflight.named import file_names

    tf.data.Dataset.range(3).save("ram://saved")
    texts = ["gs://bucket/a", "https://example.com/no-file-of-tensorflow", "a://", "://"]
    dataset = tf.data.Dataset.zip(
        tf.data.Dataset.from_tensor_slices(texts), tf.data.Dataset.load("ram://saved")
    )
    assert file_names(read_graph(dataset)) == ["gs://bucket/a", "ram://saved"]


def test_urls_of_local_files_in_a_graph_are_their_paths(tmp_path: Path) -> None:
    import tensorflow as tf
    from rtj_trainer.preflight.graph import read_graph
    from rtj_trainer.preflight.named import file_names

    file = tmp_path / "lines"
    file.write_text("a\n")
    saved = tmp_path / "saved"
    tf.data.Dataset.range(3).save(str(saved))
    lines = tf.data.TextLineDataset(f"file://{file}")
    dataset = tf.data.Dataset.zip(lines, tf.data.Dataset.load(f"file://{saved}"))
    assert file_names(read_graph(dataset)) == [str(file), str(saved)]


@pytest.mark.parametrize(
    "read",
    [
        lambda tf, names: tf.data.TextLineDataset(names),
        lambda tf, names: tf.data.Dataset.from_tensor_slices((names, [0, 1])),
        lambda tf, names: tf.data.Dataset.list_files(names, seed=1),
        lambda tf, names: tf.data.Dataset.range(2).map(tf.constant(names).__getitem__),
        lambda tf, names: tf.data.Dataset.range(2).map(lambda i: tf.constant([names])[0][i]),
    ],
    ids=["text lines", "slices", "list_files", "captured", "within a function"],
)
def test_files_in_a_list_are_found(read: Any, tmp_path: Path) -> None:
    import tensorflow as tf
    from rtj_trainer.preflight.graph import read_graph
    from rtj_trainer.preflight.named import file_names

    names = [str(tmp_path / name) for name in ("a", "b")]
    for name in names:
        Path(name).write_text("line\n")
    assert file_names(read_graph(read(tf, names))) == names


def test_no_more_names_of_a_list_are_tried_than_can_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import tensorflow as tf
    from rtj_trainer.preflight import named
    from rtj_trainer.preflight.graph import read_graph

    monkeypatch.setattr(named, "_MANY", 2)
    names = [str(tmp_path / name) for name in "abc"]
    for name in names:
        Path(name).write_text("line\n")
    assert named.file_names(read_graph(tf.data.TextLineDataset(names))) == names[:2]
    assert "names 3 data files in one list" in caplog.text


def trained(array: Path, store: Path) -> dict[str, Any]:
    """Return the identity of a model that is evaluated on the array in a file."""
    import keras
    import numpy as np
    from rtj_trainer import data
    from rtj_trainer.pipeline import PipelineFactory
    from rtj_trainer.progress import Progress
    from rtj_trainer.state import TrainingState, variables_of
    from rtj_trainer.trainee import prepare_to_fit

    def batches(rows: Any) -> Any:
        return data.batches(data.arrays((rows, rows)), 2)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    train = PipelineFactory(lambda: batches(np.zeros((4, 1))), 0, 1, None)
    return prepare_to_fit(
        model,
        train.pipeline(False, store),
        Progress(),
        seed=0,
        validation=lambda: batches(np.load(array)),
        callbacks=lambda _: [],
        state_of=lambda *given: TrainingState(variables_of(given[0]), *given[1:]),
        best=None,
        store=store,
    ).identity


def test_the_data_of_a_validation_must_stay(tmp_path: Path) -> None:
    import numpy as np

    identities = []
    for value in (1.0, 2.0):
        np.save(tmp_path / "x.npy", np.full((4, 1), value))
        identities.append(trained(tmp_path / "x.npy", tmp_path / "indices"))
    first, second = (Fingerprint(identity, {}) for identity in identities)
    assert check(first, first, FingerprintPolicy()) is None
    with pytest.raises(PermanentError, match=r"rtj_trainer\.data reads for the validation") as e:
        check(first, second, FingerprintPolicy())
    assert e.value.message.count(" -> ") == 2, "nothing else changed"
    older = {key: told for key, told in identities[0].items() if key != "validationContents"}
    assert check(Fingerprint(older, {}), second, FingerprintPolicy()) is None


def test_the_index_of_a_validation_is_kept_on_the_volume(tmp_path: Path) -> None:
    import tensorflow as tf
    from rtj_trainer import data
    from rtj_trainer.validation import validation_data

    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        writer.write(b"one")
    store = tmp_path / "indices"
    validation_data(lambda: data.batches(data.tfrecords(tmp_path / "records"), 1), 0, store)
    assert len(list(store.iterdir())) == 1


def test_of_very_many_files_the_times_count(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / str(number)).write_bytes(b"")
    before = look_at(str(tmp_path), tmp_path / "own")
    assert list(before.contents) == ["all"]
    assert not before.times
    os.utime(tmp_path / "7", ns=(0, 0))
    assert look_at(str(tmp_path), tmp_path / "own").contents != before.contents


def test_of_files_that_are_too_many_to_look_at_the_names_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(data_files, "_LOOKED_AT", 2)
    for number in range(3):
        (tmp_path / str(number)).write_bytes(b"")
    before = look_at(str(tmp_path), tmp_path / "own").contents
    assert list(before) == [str(tmp_path / "0"), str(tmp_path / "1"), "beyond"]
    assert "names 1 more data files" in caplog.text
    os.utime(tmp_path / "2", ns=(0, 0))
    assert look_at(str(tmp_path), tmp_path / "own").contents == before
    (tmp_path / "2").rename(tmp_path / "3")
    assert look_at(str(tmp_path), tmp_path / "own").contents != before


def test_no_more_names_in_parameters_are_looked_up_than_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_files, "_LOOKED_AT", 2)
    looked_up: list[Path] = []
    is_file = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: looked_up.append(path) or is_file(path))
    found = look_at([str(tmp_path / str(number)) for number in range(5)], tmp_path / "own")
    assert looked_up == [tmp_path / "0", tmp_path / "1"]
    assert list(found.contents) == ["beyond"]


def test_bytes_in_the_middle_of_a_large_file_count_and_its_time_is_kept_apart(
    tmp_path: Path,
) -> None:
    path = tmp_path / "large"
    content = bytearray(10_000_000)
    path.write_bytes(content)
    before = look_at(str(path), tmp_path / "own")
    os.utime(path, ns=(0, 0))
    touched = look_at(str(path), tmp_path / "own")
    assert touched.contents == before.contents
    assert touched.times != before.times
    content[5_000_000] = 1
    path.write_bytes(content)
    assert look_at(str(path), tmp_path / "own").contents != before.contents


def test_very_many_files_are_one_entry(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).write_bytes(b"")
    before: dict[str, Any] = look_at(str(tmp_path), tmp_path / "own").contents
    assert list(before) == ["all"]
    (tmp_path / "7").write_bytes(b"x")
    assert look_at(str(tmp_path), tmp_path / "own").contents != before


def test_a_refusal_says_what_can_still_be_done_about_it() -> None:
    one, other = Fingerprint({"seed": 1}, {}), Fingerprint({"seed": 2}, {})
    with pytest.raises(PermanentError) as of_job:
        check(one, other, FingerprintPolicy())
    assert "this job is finished; its commits stay" in of_job.value.message
    assert "create a new job with spec.forkFrom" in of_job.value.message
    with pytest.raises(PermanentError) as of_program:
        check(one, other, FingerprintPolicy(), in_job=False)
    assert "Undo the change and run the program again" in of_program.value.message
    assert "spec." not in of_program.value.message
