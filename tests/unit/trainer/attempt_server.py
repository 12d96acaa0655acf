"""Runs attempts of the trainer in processes of their own, without importing TensorFlow each time.

The server imports TensorFlow once, starts nothing with it, and forks for every request on its
standard input. A child is a trainer process like any other: it reads its environment, it can be
killed, and its exit status is the answer. A request may name a moment at which the child signals
itself; the moments are calls of functions that the protocol is made of. A request with arguments
is a command instead, and its rehearsals are forked, too.
"""

import json
import os
import pkgutil
import runpy
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import keras  # noqa: F401 - what makes a start slow
import rtj_trainer
import tensorflow  # noqa: F401 - the same

from tests.unit.trainer.rehearsals import fork_from_here

MOMENTS = {
    "fence": ("rtj_trainer.commits.attempts", "create_fence"),
    "dataset": ("rtj_trainer.pipeline", "read_graph"),
    "probe": ("rtj_trainer.pipeline", "probe"),
    "loss-traced": ("keras", "Model.compute_loss"),
    "restore": ("rtj_trainer.state", "TrainingState.restore"),
    "start-record": ("rtj_trainer.commits.attempts", "write_start_record"),
    "batch": ("rtj_trainer.batches", "training_data"),
    "step": ("rtj_trainer.ledger", "LedgerWriter.append"),
    "ledger-flush": ("rtj_trainer.ledger", "LedgerWriter.flush"),
    "state-written": ("rtj_trainer.state", "Snapshot.write"),
    "fsync-file": ("rtj_trainer.files", "fsync_file"),
    "fsync-directory": ("rtj_trainer.files", "fsync_directory"),
    "index": ("rtj_trainer.files", "replace_file"),
    "write-file": ("rtj_trainer.files", "write_file"),
    "rename": ("rtj_trainer.files", "rename_directory"),
    "fork-ledger": ("rtj_trainer.fork", "_copy_ledger"),
    "cache-examples": ("rtj_trainer.cache.telling", "Teller.examples"),
    "cache-shard": ("rtj_trainer.cache.folder", "CacheFolder.finish_shard"),
    "cache-position": ("rtj_trainer.cache.folder", "CacheFolder.finish_position"),
    "cache-entry": ("rtj_trainer.cache.folder", "CacheFolder.add"),
    "cache-manifest": ("rtj_trainer.cache.folder", "CacheFolder.complete"),
    "last-word": ("rtj_trainer.heartbeat", "Heart.finish"),
    "epoch-begin": ("rtj_trainer.callbacks.runner", "CallbackRunner.epoch_begin"),
    "epoch-end": ("rtj_trainer.callbacks.runner", "CallbackRunner.epoch_end"),
    "validation-batch": ("rtj_trainer.validation", "training_data"),
    "train-end": ("rtj_trainer.callbacks.runner", "CallbackRunner.train_end"),
    "retention": ("rtj_trainer.commits.keeper", "delete_old_commits"),
}


def _arm(moment: str, count: int, number: int, before: bool) -> None:
    module_name, path = MOMENTS[moment]
    owner: Any = import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if before and calls == count:
            os.kill(os.getpid(), number)
        result = original(*args, **kwargs)
        if not before and calls == count:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, counted)


def _child(request: dict[str, Any]) -> int:
    os.setsid()
    _write_to(1, request["log"])
    _write_to(2, request.get("errors", request["log"]))
    os.environ.update(request.get("env", {}))
    if arguments := request.get("arguments"):
        return _command(arguments)
    kill = request.get("kill")
    while kill:
        number = getattr(signal, kill["signal"])
        _arm(kill["moment"], kill["count"], number, kill["before"])
        kill = kill["then"]
    for name in request.get("patches", ()):
        exec(Path(name).read_text(), {})  # noqa: S102 - a test's own file
    if script := request.get("script"):
        os.chdir(request["folder"])
        runpy.run_path(script, run_name="__main__")
        return 0
    from rtj_trainer.__main__ import main

    return main()


def _write_to(descriptor: int, path: str) -> None:
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)


def _command(arguments: list[str]) -> int:
    from rtj_trainer.__main__ import run_command

    fork_from_here()
    return run_command(arguments)


def _import_trainer() -> None:
    """Import all of the trainer, so that no child has to."""
    for found in pkgutil.walk_packages(rtj_trainer.__path__, "rtj_trainer."):
        if not found.name.endswith("__main__"):
            import_module(found.name)


def main() -> None:
    """Answer each request with the exit status; negative numbers are signals."""
    _import_trainer()
    print("ready", flush=True)  # noqa: T201 - the protocol
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = _child(json.loads(line))
            except SystemExit as error:
                code = int(error.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the protocol
    os._exit(0)  # Taking TensorFlow's modules apart lasts seconds.


if __name__ == "__main__":
    main()
