"""Where every thread stands, written down when the trainer hangs, so that the hang can be mended.

Two ways, since a thread can hang in two ways. Mostly the others still run: then the heartbeat's
thread is asked by the operator, and writes the stacks of all. But a thread that blocks in native
code without giving up the interpreter's lock stops every other; then only a watchdog outside of the
interpreter can write. It is wound up once a second by a thread that does nothing else, and goes off
when that thread has not run for `LIMIT_SECONDS`.
"""

import contextlib
import faulthandler
import logging
import os
import threading
import time
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from rtj_trainer import files
from rtj_trainer.commits.layout import JobDirectory

KEPT_DUMPS = 5
LIMIT_SECONDS = 10.0
"""As long as the operator waits for an answer. A native call that holds the lock this long and ends
after all (loading a large library, say) leaves no trace."""

_WIND_UP_SECONDS = 1.0
_STANDARD_ERROR = 2

log = logging.getLogger(__name__)


def dump_to_log(standstill: str) -> str | None:
    """Write the stacks to standard error only; there is no file to name."""
    _announce(standstill)
    faulthandler.dump_traceback(_STANDARD_ERROR)
    return None


class StackFolder:
    """The stacks that one attempt leaves on the volume."""

    def __init__(self, job: JobDirectory, attempt: int) -> None:
        self._job = job
        self.watchdog_file = job.stacks / f"{attempt:06d}-stuck.txt"

    def prune(self) -> None:
        """Keep the newest few dumps, and drop the files of watchdogs that never went off."""
        with contextlib.suppress(OSError):  # The next attempt tidies up; training does not wait.
            self._prune()

    def _prune(self) -> None:
        found = [(path.name[:6], path.stat(), path) for path in self._job.stacks.glob("*.txt")]
        empty = [path for _, stat, path in found if stat.st_size == 0]
        dumps = sorted(
            (number, stat.st_mtime, path) for number, stat, path in found if stat.st_size
        )
        for path in (*empty, *(path for *_, path in dumps[:-KEPT_DUMPS])):
            if path != self.watchdog_file:
                path.unlink(missing_ok=True)

    def dump(self, standstill: str) -> str | None:
        """Write the stacks to the log and to a file; return its path from the root of the claim.

        The log comes first: a volume that does not answer is what many trainers hang at.
        """
        dump_to_log(standstill)
        path = self._job.stacks / f"{standstill}.txt"
        try:
            with path.open("wb", buffering=0) as file:
                file.write(_heading(standstill).encode())
                faulthandler.dump_traceback(file)
                os.fsync(file.fileno())
            files.fsync_directory(path.parent)
            self.prune()
        except OSError as error:
            log.warning("the stacks are not on the volume: %s", error)
            return None
        return self._job.from_claim(path)


class Watchdog:
    """Writes the stacks to a file when no thread of Python has run for a while.

    The file is there, and empty, from the start: opening it takes the interpreter.
    """

    def __init__(self, path: Path, limit_seconds: float = LIMIT_SECONDS) -> None:
        self._path = path
        self._limit = limit_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        """Begin to watch. A volume that cannot take the file is no reason not to train."""
        try:
            # Appending, since the file is emptied behind the watchdog's back.
            self._file = self._path.open("ab", buffering=0)
            self._thread.start()
        except OSError as error:
            log.warning("no watchdog: %s", error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and remove the file: whoever gets here was not stuck for good, whatever it says.

        A volume that has failed meanwhile must not hide how the attempt ended.
        """
        if self._file is None:
            return
        self._stopped.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        try:
            self._file.close()
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the watchdog's file stays: %s", error)

    def _run(self) -> None:
        assert self._file  # noqa: S101 - started after it was opened
        wound_up = time.monotonic()
        while True:
            before, wound_up = wound_up, time.monotonic()
            faulthandler.dump_traceback_later(self._limit, file=self._file)
            if time.monotonic() - before >= self._limit:
                # It may have gone off between the two, but nobody was stuck for good. At no other
                # time may this thread touch the file: a volume that stalls it must not look like a
                # stuck process.
                os.ftruncate(self._file.fileno(), 0)
            if self._stopped.wait(min(_WIND_UP_SECONDS, self._limit / 4)):
                return


def _announce(standstill: str) -> None:
    log.warning("asked for all stacks at %s; they follow on standard error", standstill)


def _heading(standstill: str) -> str:
    lines = [f"{standstill}, {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}"]
    lines += [
        f"Thread 0x{thread.ident or 0:016x}: {thread.name}" for thread in threading.enumerate()
    ]
    return "\n".join(lines) + "\n\n"
