"""A trainer that hangs leaves the name of the function that it hangs in."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rtj_api.heartbeat import StackDump, TrainerPhase
from rtj_api.names import ANNOTATION_DUMP_STACKS, ExitCode
from rtj_trainer import stacks
from rtj_trainer.commits.layout import JobDirectory
from rtj_trainer.stacks import StackFolder

from tests.unit.trainer.lease_server import LeaseServer
from tests.unit.trainer.support import BUILDERS, Job, MakeJob

pytestmark = pytest.mark.unit

HANGING = """
import ctypes, os, time
from pathlib import Path
import keras

def read_a_socket_that_never_answers(folder):
    while not (folder / "answer").exists():
        time.sleep(0.05)

def hang_once_told(folder):
    while not (folder / "hang").exists():
        time.sleep(0.05)
    call_a_library_that_keeps_the_lock()

def call_a_library_that_keeps_the_lock():
    ctypes.PyDLL(None).sleep(600)

class Slow(keras.metrics.MeanSquaredError):
    'Hangs when its second epoch begins.'

    epochs = 0

    def reset_state(self):
        Slow.epochs += 1
        folder = Path(FOLDER)
        if Slow.epochs == 2 and not (folder / "answer").exists():
            (folder / "pid").write_text(str(os.getpid()))
            HANG(folder)
        super().reset_state()

def build_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=[Slow()], jit_compile=False)
    return model
"""
BY_THE_SERVER = """
import http.client
from pathlib import Path
from rtj_trainer import lease, stacks
server = lease.ApiServer(
    http.client.HTTPConnection("127.0.0.1", {port}, timeout=5), Path("{token}")
)
lease.ApiServer.in_cluster = classmethod(lambda _: server)
stacks.Watchdog.__init__.__defaults__ = (1.0,)
"""


@pytest.fixture
def run(make_job: MakeJob, server: LeaseServer, tmp_path: Path) -> Iterator["Hung"]:
    found = Hung(make_job, server, tmp_path)
    yield found
    found.close()


class Hung:
    """A job whose first attempt hangs in the named function of its builder."""

    def __init__(self, make_job: MakeJob, server: LeaseServer, folder: Path) -> None:
        self._make_job, self.server, self.folder = make_job, server, folder
        self.codes: list[int] = []

    def start(self, function: str) -> Job:
        source = (BUILDERS / "builder.py").read_text().split("class Noise")[0]
        source += HANGING.replace("FOLDER", repr(str(self.folder))).replace("HANG(", f"{function}(")
        lease = {"namespace": "space", "name": "job", "intervalSeconds": 0.1}
        job = self._make_job(source, datasetFunction="by_index", lease=lease)
        token = self.folder / "token"
        token.write_text("secret")
        port = self.server.http.server_address[1]
        patch = self.folder / "patch.py"
        patch.write_text(BY_THE_SERVER.format(port=port, token=token))
        job.patches.append(patch)
        self.job = job
        self.thread = threading.Thread(target=lambda: self.codes.append(job.run()))
        self.thread.start()
        return job

    def wait_until_it_hangs(self) -> None:
        deadline = time.monotonic() + 60
        while not (self.folder / "pid").exists():
            assert time.monotonic() < deadline
            assert not self.codes, self.job.log[-3000:]
            time.sleep(0.05)

    def kill(self) -> None:
        os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)
        self.thread.join()

    def close(self) -> None:
        if self.thread.is_alive():
            self.kill()


def test_it_answers_with_its_stacks_and_goes_on_if_the_hang_ends(run: Hung) -> None:
    job = run.start("read_a_socket_that_never_answers")
    run.wait_until_it_hangs()
    run.server.wait_for(lambda: run.server.beat and run.server.beat.position.step == 13)
    standstill = "000001-Training-13"
    run.server.annotate(ANNOTATION_DUMP_STACKS, standstill)
    run.server.wait_for(lambda: run.server.beat and run.server.beat.stacks)
    beat = run.server.beat
    assert beat
    assert (beat.phase, beat.standstill) == (TrainerPhase.TRAINING, standstill)
    path = f"uid/stacks/{standstill}.txt"
    assert beat.stacks == StackDump(standstill=standstill, path=path)
    dump = (job.folder / "volume" / path).read_text()
    for text in (dump, job.log):
        assert "in read_a_socket_that_never_answers" in text
        assert "in reset_state" in text
    assert "MainThread" in dump
    (run.folder / "answer").touch()
    run.thread.join(60)
    assert run.codes == [ExitCode.COMPLETED]
    assert [path.name for path in job.directory.stacks.iterdir()] == [f"{standstill}.txt"]


def test_a_process_too_stuck_to_answer_is_written_down_by_its_watchdog(run: Hung) -> None:
    job = run.start("hang_once_told")
    run.wait_until_it_hangs()
    path = "uid/stacks/000001-stuck.txt"
    run.server.wait_for(lambda: run.server.beat and run.server.beat.watchdog_path == path)
    (run.folder / "hang").touch()
    file = job.directory.stacks / "000001-stuck.txt"
    # The innermost function is written first.
    lines = ("in call_a_library_that_keeps_the_lock", "in hang_once_told", "in reset_state")
    deadline = time.monotonic() + 120
    while not all(line in file.read_text() for line in lines):
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.1)
    run.kill()
    (run.folder / "answer").touch()
    assert job.run() == ExitCode.COMPLETED
    assert [path.name for path in job.directory.stacks.iterdir()] == ["000001-stuck.txt"]


STALL = """
import ctypes, sys, time
from pathlib import Path
from rtj_trainer.stacks import Watchdog
file, end = Path(sys.argv[1]), int(sys.argv[2])
with Watchdog(file, 1.0):
    ctypes.PyDLL(None).read(end, ctypes.create_string_buffer(1), 1)
    deadline = time.monotonic() + 60
    while file.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.05)
assert not file.exists()
"""


def test_a_process_that_was_stuck_for_a_while_leaves_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "file"
    end, release = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", STALL, str(file), str(end)], pass_fds=[end])
    while process.poll() is None and not (file.exists() and file.stat().st_size):
        time.sleep(0.02)
    went_off = process.poll() is None
    os.write(release, b".")
    assert (process.wait(), went_off) == (0, True)
    os.close(end)
    os.close(release)


WATCHED = """
import faulthandler, sys, threading, time
from pathlib import Path
from rtj_trainer.stacks import Watchdog
file, stalled = Path(sys.argv[1]), threading.Event()
def until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
def stall():
    until(lambda: file.stat().st_size)
    stalled.set()
"""
IN_TWO_PARTS = """
wind_up, times = faulthandler.dump_traceback_later, []
def stalling(limit, file):
    if len(times) == 1:
        stall()
    wind_up(limit, file=file)
    times.append(time.monotonic())
    if len(times) == 1:
        time.sleep(0.6 * limit)
faulthandler.dump_traceback_later = stalling
with Watchdog(file, 1.0):
    until(lambda: stalled.is_set() and not file.stat().st_size)
"""
AT_THE_END = """
with Watchdog(file, 0.5) as watchdog:
    join = watchdog._thread.join
    watchdog._thread.join = lambda: (join(), stall())
assert stalled.is_set()
assert not file.exists()
"""


@pytest.mark.parametrize("stall", [IN_TWO_PARTS, AT_THE_END], ids=["in two parts", "at the end"])
def test_whenever_a_process_was_stuck_for_a_while_it_leaves_no_trace(
    stall: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", WATCHED + stall, str(tmp_path / "file")]
    assert subprocess.run(command, check=False).returncode == 0


class TestFolder:
    """What is kept on the volume."""

    def test_only_the_newest_dumps_are_kept(self, tmp_path: Path) -> None:
        job = JobDirectory(tmp_path / "uid")
        job.create()
        for attempt in range(1, 9):
            folder = StackFolder(job, attempt)
            folder.prune()
            folder.watchdog_file.touch()
            folder.dump(f"{attempt:06d}-Training-9")
        kept = sorted(path.name for path in job.stacks.iterdir())
        dumps = [f"{attempt:06d}-Training-9.txt" for attempt in (4, 5, 6, 7, 8)]
        assert kept == sorted([*dumps, "000008-stuck.txt"])
        assert len(dumps) == stacks.KEPT_DUMPS

    def test_a_volume_that_takes_no_file_leaves_the_log(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = StackFolder(JobDirectory(tmp_path / "missing"), 1)
        assert folder.dump("000001-Training-9") is None
        assert "test_a_volume_that_takes_no_file_leaves_the_log" in capfd.readouterr().err


def test_a_volume_that_fails_meanwhile_does_not_hide_how_the_attempt_ended(tmp_path: Path) -> None:
    folder = tmp_path / "stacks"
    folder.mkdir()
    with stacks.Watchdog(folder / "1.txt"):
        folder.rename(tmp_path / "gone")
        folder.touch()  # Nothing below it can be removed.
