"""The heartbeats of a trainer process, kept in a file instead of in a Lease."""

import threading
from pathlib import Path

from rtj_api.heartbeat import Heartbeat, TrainerPhase
from rtj_api.launch import TrainerConfig
from rtj_trainer import process
from rtj_trainer.heartbeat import Heart

_told: list[str] = []
_changed = threading.Condition()


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path

    def beat(self, text: str) -> None:
        with self._path.open("a") as file:
            file.write(text + "\n")
        with _changed:
            _told.append(text)
            _changed.notify_all()


def keep_in(path: Path) -> None:
    """Let this process keep its heartbeats."""

    def make(config: TrainerConfig, pod_uid: str) -> Heart:
        return Heart(Heartbeat(attempt=config.attempt, phase=TrainerPhase.STARTING), _File(path))  # type: ignore[arg-type]

    process._make_heart = make


def wait_for(words: str) -> None:
    """Return once this process has told something."""
    with _changed:
        assert _changed.wait_for(lambda: any(words in text for text in _told), 60)


def kept_in(path: Path) -> list[Heartbeat]:
    """Return what a process told, in order."""
    return [Heartbeat.model_validate_json(line) for line in path.read_text().splitlines()]
