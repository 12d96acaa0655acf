"""Tells the cluster how the attempt is, every few seconds and at each turn."""

import threading
from typing import Any

from rtj_api.heartbeat import Heartbeat

from rtj_trainer.progress import Progress


class Heart:
    """Stub."""

    def __init__(self, beat: Heartbeat) -> None:
        self._beat = beat
        self._lock = threading.Lock()

    def report(self, **changes: Any) -> None:
        with self._lock:
            self._beat = self._beat.model_copy(update=changes)

    def progress(self, progress: Progress) -> None:
        pass

    def check_superseded(self) -> None:
        pass
