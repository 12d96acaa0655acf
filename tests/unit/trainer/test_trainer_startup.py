"""The start of a trainer: what is done beside the import, and what is not done twice."""

import gc
import logging
import re
import threading
import time

import pytest
from rtj_trainer import startup
from rtj_trainer.startup import StartUp

from tests.unit.trainer.support import Kill, MakeJob

pytestmark = pytest.mark.unit

COUNTED = """
import keras
step = keras.Model.train_step

def counted(self, *arguments):
    print("traced", type(self).__name__, flush=True)
    return step(self, *arguments)

keras.Model.train_step = counted
"""


def test_the_log_tells_the_parts_of_the_time_until_the_first_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    times = StartUp(time.monotonic() - 2.0)
    for part in ("import", "build", "import"):
        times.ended(part)
    times.stepped()
    times.stepped()
    (line,) = caplog.messages
    total = float(line.removeprefix("first step ").split(" s ")[0])
    parts = dict(re.findall(r"(\w+) (\d+\.\d+)(?:,|$)", line.partition(": ")[2]))
    assert list(parts) == ["import", "build", "step"]
    assert 2.0 <= float(parts["import"]) <= total
    assert sum(map(float, parts.values())) == pytest.approx(total, abs=0.01)


def test_the_start_of_the_process_is_known() -> None:
    ago = time.monotonic() - startup.process_start()
    assert time.thread_time() - 0.02 <= ago < 24 * 3600


def test_the_import_runs_beside_the_rest_and_the_collector_rests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imported, thresholds = threading.Event(), gc.get_threshold()
    monkeypatch.setattr(startup, "_import", lambda: imported.wait(60))
    try:
        startup.begin_import()
        assert not gc.isenabled()
        imported.set()
        startup.end_import()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def test_a_step_is_traced_once_and_the_log_tells_of_the_first(make_job: MakeJob) -> None:
    job = make_job(module="watched", datasetFunction="known", epochs=1)
    path = job.folder / "counted.py"
    path.write_text(COUNTED)
    job.patches = [path]
    job.run_to_end(Kill("step", 4, "SIGTERM"))
    assert job.log.count("traced Restless") == 2, "once in each process"
    assert job.log.count("s after the start: import ") == 2
