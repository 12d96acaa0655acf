"""Who uses a cache: a file for each job, renewed while its trainer lives, and good for an hour.

A trainer that is killed renews nothing more, so what it used may be deleted an hour later; by then
its job's next attempt has mostly renewed it. All times are those that the volume gives its files,
so the clocks of nodes do not matter.
"""

import logging
import threading
from pathlib import Path

from rtj_trainer import files

_RENEW_SECONDS = 60.0
LEASE_SECONDS = 3600.0
LAST_USED = "last-used"

log = logging.getLogger(__name__)


class Use:
    """The use of a cache by a job.

    Args:
        root: Folder of the cache.
        job_uid: Of the job.
    """

    def __init__(self, root: Path, job_uid: str) -> None:
        self._root = root
        self._mark = root / "uses" / job_uid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cache use", daemon=True)

    def begin(self) -> None:
        """Mark the cache as used, from now until the end of the process and an hour longer.

        Raises:
            OSError: the volume cannot be written.
        """
        self._renew()
        files.fsync_directory(self._mark.parent)
        self._thread.start()

    def release(self) -> None:
        """Say that the job is complete and does not need the cache any more."""
        self._ended.set()
        self._thread.join()
        try:
            (self._root / LAST_USED).touch()
            self._mark.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s stays marked as used for an hour: %s", self._root, error)

    def _run(self) -> None:
        while not self._ended.wait(_RENEW_SECONDS):
            try:
                self._renew()
            except OSError as error:
                log.warning("the use of %s cannot be renewed: %s", self._root, error)

    def _renew(self) -> None:
        self._mark.touch()
        (self._root / LAST_USED).touch()


def in_use(root: Path, now: float) -> bool:
    """Return whether a job uses a cache at a time of the volume."""
    for mark in (root / "uses").glob("*"):
        try:
            if mark.stat().st_mtime > now - LEASE_SECONDS:
                return True
        except FileNotFoundError:
            continue
    return False


def last_used(root: Path) -> float:
    """Return when a cache was used last, by the volume's time; 0 if that is not known."""
    try:
        return (root / LAST_USED).stat().st_mtime
    except FileNotFoundError:
        return 0.0
