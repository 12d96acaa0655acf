"""What a job was started on is in its commits, and what a device cannot compute exactly is refused.

A GPU is stood in for by what TensorFlow says of one; the arithmetic is the CPU's.
"""

import resource
from pathlib import Path

import pytest
from rtj_api.names import ExitCode
from rtj_trainer import environment
from rtj_trainer.environment import loaded_versions

from tests.unit.trainer.support import BUILDERS, Job, Kill, MakeJob

pytestmark = pytest.mark.unit

GPU = """
import tensorflow as tf
from types import SimpleNamespace

found = tf.config.list_physical_devices
gpu = SimpleNamespace(device_type="GPU")
tf.config.list_physical_devices = lambda kind=None: [gpu] if kind == "GPU" else found(kind)
tf.config.experimental.get_device_details = lambda device: {"device_name": "%s"}
"""


def put_into(job: Job, gpu: str) -> None:
    patch = job.folder / "gpu.py"
    patch.write_text(GPU % gpu)
    job.patches = [patch]


def test_a_job_that_goes_on_on_another_gpu_or_on_none_is_refused_or_warned_of(
    make_job: MakeJob,
) -> None:
    job = make_job(datasetFunction="by_index", modelFunction="small_model")
    put_into(job, "NVIDIA L4")
    assert job.run(Kill("step", 7, "SIGTERM")) == ExitCode.PREEMPTED, job.log
    assert job.last_manifest.environment["accelerators"] == ["NVIDIA L4"]
    put_into(job, "NVIDIA H100")
    assert job.run(fingerprintPolicy={"versions": "Refuse"}) == ExitCode.PERMANENT
    words = "versions or machine (accelerators: ['NVIDIA L4'] -> ['NVIDIA H100'])"
    assert words in job.final_record["message"]
    job.patches = []
    assert job.run() == ExitCode.COMPLETED, job.log
    assert "training on the CPU" in job.log
    assert "accelerators: ['NVIDIA L4'] -> []" in job.log


def on(job: Job, instructions: str, **settings: str) -> None:
    """Let the job run on a CPU with these sets of instructions, with environment variables."""
    info = job.folder / "cpuinfo"
    info.write_text(f"processor : 0\nflags\t\t: fpu {instructions} lm\n\nprocessor : 1\n")
    patch = job.folder / "cpu.py"
    patch.write_text(
        "import os\nfrom pathlib import Path\nfrom rtj_trainer import environment\n"
        f"environment._CPU_INFO = Path({str(info)!r})\nos.environ.update({settings})\n"
    )
    job.patches = [patch]


def test_a_job_that_goes_on_on_another_cpu_is_refused_or_warned_of(make_job: MakeJob) -> None:
    job = make_job(datasetFunction="by_index", modelFunction="small_model")
    on(job, "avx2 avx512f sse4_2 fma avx512bw")
    assert job.run(Kill("step", 7, "SIGTERM")) == ExitCode.PREEMPTED, job.log
    found = ["avx2", "avx512bw", "avx512f", "fma"]
    assert job.last_manifest.environment["instructions"] == found
    on(job, "avx2 fma", TF_ENABLE_ONEDNN_OPTS="0")
    changes = (
        "versions or machine (TF_ENABLE_ONEDNN_OPTS: absent -> 0, "
        "instructions: no avx512bw avx512f any more)"
    )
    assert job.run(fingerprintPolicy={"versions": "Refuse"}) == ExitCode.PERMANENT
    assert changes in job.final_record["message"]
    assert job.run() == ExitCode.COMPLETED, job.log
    assert f"these changed: {changes}; the final weights may differ" in job.log


@pytest.mark.parametrize(
    "line", ["flags : sse avx2 smep", "Features\t: fp asimd sve2 crc32", "model : 1"]
)
def test_the_sets_of_instructions_are_found_on_every_machine(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{line}\n\n{line} avx\n")
    monkeypatch.setattr(environment, "_CPU_INFO", tmp_path / "cpuinfo")
    found = {"f": ["avx2"], "F": ["asimd", "sve2"], "m": []}
    assert environment.instructions() == found[line[0]]


def test_libraries_that_are_loaded_say_their_versions() -> None:
    assert loaded_versions({"c": "getpagesize", "cudnn": "cudnnGetVersion"}) == {
        "c": resource.getpagesize()
    }


SOURCE = (BUILDERS / "builder.py").read_text()
NOISE = "0.01 * keras.random.normal(keras.ops.shape(inputs))"


def reading(address: str) -> str:
    """Return a builder whose training step reads a file that cannot be read."""
    assert NOISE in SOURCE
    return SOURCE.replace(NOISE, f"tf.strings.to_number(tf.io.read_file('{address}'))")


def test_an_operation_without_a_deterministic_kernel_is_refused_with_what_tensorflow_says(
    make_job: MakeJob,
) -> None:
    """On a CPU all have one; a file system that does not exist is refused in the same way."""
    job = make_job(reading("nondeterministic://kernel"), datasetFunction="by_index")
    assert job.run() == ExitCode.PERMANENT, job.log
    record = job.final_record
    assert record["reason"] == "PipelineNotResumable"
    assert "the model's training step cannot be computed deterministically" in record["message"]
    assert "File system scheme 'nondeterministic' not implemented" in record["message"]
    assert not job.directory.commit_ids()


def test_another_operation_that_is_not_implemented_is_an_error_of_the_program(
    make_job: MakeJob, tmp_path: Path
) -> None:
    """Whatever the files are called that TensorFlow names in its trace."""
    (tmp_path / "deterministic.py").write_text(reading("nowhere://kernel"))
    job = make_job(tmp_path, module="deterministic", datasetFunction="by_index")
    assert job.run() == ExitCode.USER_ERROR
    assert "deterministic.py" in job.log
    assert job.final_record["reason"] == "TrainerFailed"
