"""What is executed on demand is, to whoever asks for it, what it would be had it been executed."""

import importlib
import inspect
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rtj_trainer.on_demand import execute_on_demand

from tests.unit.trainer.interface import NOT_REGISTERED
from tests.unit.trainer.support import REPOSITORY

pytestmark = pytest.mark.unit

Import = Callable[[str, str], ModuleType]
"""(name, source) -> the module of that name below a package whose modules are put off."""


@pytest.fixture
def put_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Import]:
    package = f"putoff{tmp_path.name.replace('-', '_')}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    execute_on_demand(package)

    def make(name: str, source: str) -> ModuleType:
        path = tmp_path / package / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        importlib.invalidate_caches()
        below = name.removesuffix("/__init__").replace("/", ".")
        return importlib.import_module(f"{package}.{below}")

    yield make
    sys.meta_path.pop(0)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def executed(module: ModuleType) -> bool:
    return "done" in vars(module)


def test_a_module_is_executed_when_something_of_it_is_read_and_once(put_off: Import) -> None:
    module = put_off(
        "plain", "import sys\nsys.counted = getattr(sys, 'counted', 0) + 1\ndone = 1\n"
    )
    try:
        assert not hasattr(sys, "counted")
        assert sys.modules[module.__name__] is module
        assert not executed(module)
        assert (module.done, module.done) == (1, 1)
        assert sys.counted == 1  # type: ignore[attr-defined]
        assert type(module) is ModuleType
        assert inspect.getsource(module).startswith("import sys")
    finally:
        vars(sys).pop("counted", None)


@pytest.mark.parametrize("asked", [dir, lambda m: exec(f"from {m.__name__} import *")])  # noqa: S102
def test_what_looks_at_all_of_a_module_finds_all_of_it(
    asked: Callable[[ModuleType], Any], put_off: Import
) -> None:
    module = put_off("whole", "done = 1\n")
    asked(module)
    assert executed(module)


def test_a_name_that_a_line_imports_is_had_without_the_other_lines(put_off: Import) -> None:
    module = put_off(
        "names",
        "from os.path import join  # line: 7\n"
        "from os import path as paths\n"
        "from xml import dom\n"
        "done = 1\n",
    )
    assert (module.join, module.paths) == (os.path.join, os.path)
    assert module.dom is importlib.import_module("xml.dom"), "a module of a package, too"
    assert not executed(module)
    assert module.done == 1
    assert executed(module)


def test_a_module_below_finds_the_one_above_executed(put_off: Import) -> None:
    package = put_off("above/__init__", "done = 1\n")
    assert not executed(package)
    below = put_off("above/below", "done = 2\n")
    assert executed(package)
    assert not executed(below)
    assert below.done == 2


def test_a_module_that_fails_fails_for_whoever_asks_again(put_off: Import) -> None:
    module = put_off("broken", "import sys\nsys.no_such_thing\ndone = 1\n")
    for _ in range(2):
        with pytest.raises(AttributeError, match="no_such_thing"):
            _ = module.done


def test_what_is_not_there_is_missed_as_in_any_module(put_off: Import) -> None:
    module = put_off("plain", "done = 1\n")
    with pytest.raises(AttributeError, match=r"module 'putoff\w+\.plain' has no attribute 'other'"):
        _ = module.other


def test_a_module_may_read_itself_while_it_is_executed(put_off: Import) -> None:
    source = "import sys\nme = sys.modules[__name__]\nearly = hasattr(me, 'done')\ndone = 1\n"
    module = put_off("itself", source)
    assert (module.early, module.done) == (False, 1)


def test_another_thread_waits_until_a_module_has_been_executed(put_off: Import) -> None:
    source = "import sys, time\nsys.begun.set()\nsys.go_on.wait(30)\ndone = 1\n"
    sys.begun, sys.go_on = threading.Event(), threading.Event()  # type: ignore[attr-defined]
    try:
        module = put_off("slow", source)
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(module.done)) for _ in range(2)]
        threads[0].start()
        assert sys.begun.wait(30)  # type: ignore[attr-defined]
        threads[1].start()
        threads[1].join(0.2)
        assert threads[1].is_alive(), "it has not read a module that is half there"
        sys.go_on.set()  # type: ignore[attr-defined]
        for thread in threads:
            thread.join(30)
        assert found == [1, 1]
    finally:
        del sys.begun, sys.go_on  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def interfaces() -> tuple[Any, Any]:
    """What `interface.py` tells of TensorFlow as Python imports it, and as the trainer does."""
    found = []
    for how in ("python", "trainer"):
        command = [sys.executable, "-m", "tests.unit.trainer.interface", how]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found[0], found[1]


def test_tensorflow_has_the_same_names_whichever_is_asked_for_first(
    interfaces: tuple[Any, Any],
) -> None:
    python, trainer = interfaces
    assert trainer["executed"] < python["executed"] - 500
    assert trainer["put_off"] == {name: python["modules"][name] for name in trainer["put_off"]}


def test_tensorflow_knows_the_same_gradients(interfaces: tuple[Any, Any]) -> None:
    python, trainer = interfaces
    assert set(python["gradients"]) ^ set(trainer["gradients"]) == NOT_REGISTERED


def test_operations_have_the_same_signatures(interfaces: tuple[Any, Any]) -> None:
    python, trainer = interfaces
    common = python["signatures"].keys() & trainer["signatures"].keys()
    assert len(common) > 1000
    assert {name: trainer["signatures"][name] for name in common} == {
        name: python["signatures"][name] for name in common
    }


def after_the_import(program: str, before: str = "") -> list[str]:
    """Return the words that a program prints in a process that has imported as the trainer does."""
    lines = (
        "from rtj_trainer import startup",
        before,
        "startup.begin_import()",
        "startup.end_import()",
        "import tensorflow as tf",
        program,
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


@pytest.mark.parametrize("first", ["lite.TFLiteConverter", "distribute.experimental.rpc.Server"])
def test_a_part_of_the_interface_stays_when_a_package_of_its_name_is_imported(first: str) -> None:
    part = first.partition(".")[0]
    name = {"lite": "TFLiteConverterV2", "distribute": "Server"}[part]
    printed = after_the_import(f"print(tf.{first}.__name__, tf.{part}.__name__)")
    assert printed == [name, f"tensorflow._api.v2.{part}"]


def test_a_part_of_the_interface_stays_where_there_is_no_such_package() -> None:
    other_version = "startup._BESIDE_THE_INTERFACE = {'distribute': 'tensorflow.not_there'}"
    printed = after_the_import("print(tf.distribute.get_strategy.__name__)", other_version)
    assert printed == ["get_strategy"]


def test_what_keras_seldom_reads_is_there_for_who_does(tmp_path: Path) -> None:
    printed = after_the_import(f"""
import sys, keras
print(*(type(sys.modules[name]).__name__ for name in startup._SELDOM_READ))
model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
model.summary(print_fn=lambda text: print("Dense" if "Dense" in text else text))
model.save_weights("{tmp_path}/all.weights.h5")
import h5py, requests
with h5py.File("{tmp_path}/all.weights.h5") as file:
    print("layers" in file, requests.get.__name__, requests.exceptions.Timeout.__name__)
""")
    assert printed == [*["_Pending"] * 5, "Dense", "True", "get", "Timeout"]
