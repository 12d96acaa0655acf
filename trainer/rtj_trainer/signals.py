"""Turns SIGTERM into an orderly end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rtj_trainer.errors import PreemptedError


class StopRequest:
    """Whether Kubernetes asked this process to stop.

    Until training starts there is nothing to save, so the request ends the process at once. While
    it is deferred, the loop looks at `requested` between two steps.
    """

    def __init__(self) -> None:
        self.requested = False
        self.raised: PreemptedError | None = None
        """What ended the process at once, whatever else an `except` of a library made of it."""
        self._deferred = False
        self._before: dict[int, Any] = {signal.SIGTERM: None, signal.SIGINT: None}

    def install(self) -> None:
        """Handle SIGTERM and SIGINT from now on."""
        for number in self._before:
            self._before[number] = signal.signal(number, self._receive)

    def ignore(self) -> None:
        """Ignore further requests: how the process ends is decided, and only has to be told."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def uninstall(self) -> None:
        """Handle signals as before `install`."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self._deferred:
            self.raised = PreemptedError("stopped before training began; nothing new to commit")
            raise self.raised

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the loop decide when to stop."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
