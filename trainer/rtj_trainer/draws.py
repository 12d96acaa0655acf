"""Refuses draws of random numbers that no restart could repeat, wherever a program makes them.

A commit holds the states of the global generators, but not which seed or generator a program has
chosen since it began. Nor does it hold what TensorFlow counts within a kernel: `tf.random.*` with a
seed of its own gives other numbers at each call, and the first of them again in a new process.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import tensorflow as tf
from rtj_api.names import Reason
from tensorflow.python.framework import random_seed

from rtj_trainer import seeding
from rtj_trainer.errors import PermanentError
from rtj_trainer.preflight.lines import line_of_program

RESEEDS = (
    "seeds or replaces a global generator, as tf.random.set_seed, keras.utils.set_random_seed and "
    "keras.utils.clear_session do"
)
INSTEAD = (
    "draw with keras.random.*(…, seed=number) or tf.random.stateless_*(…, seed=[epoch, batch]), "
    "which need no generator, or without any seed, from the job's"
)


class Choice:
    """The seeds and generators that were chosen before the first step."""

    def __init__(self) -> None:
        self._chosen = seeding.Chosen.now()

    def check(self) -> None:
        """Return if they are still the same.

        Raises:
            PermanentError: `PipelineNotResumable`.
        """
        if seeding.Chosen.now() != self._chosen:
            _refuse(f"since the first step the program {RESEEDS}")


@contextmanager
def repeatable() -> Iterator[None]:
    """Refuse what is drawn with a seed that is counted in a kernel, in this context.

    That of a traced function or a dataset is looked at elsewhere.
    """
    original = random_seed.get_seed

    def get_seed(op_seed: Any) -> Any:
        counted = op_seed is not None and tf.executing_eagerly()
        if counted and not _apart.get() and not _is_for_dataset():
            line = line_of_program()
            _refuse(f"{f'{line} ' if line else ''}draws by tf.random.* with seed={op_seed!r}")
        return original(op_seed)

    random_seed.get_seed = get_seed
    try:
        yield
    finally:
        random_seed.get_seed = original


_apart: ContextVar[bool] = ContextVar("apart", default=False)


@contextmanager
def apart() -> Iterator[None]:
    """Let a function draw as it likes that begins anew from the seed at each call."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def _is_for_dataset() -> bool:
    name: str = sys._getframe(2).f_globals.get("__name__", "")
    return name.startswith("tensorflow.python.data.")


def _refuse(what: str) -> NoReturn:
    raise PermanentError(
        Reason.PIPELINE_NOT_RESUMABLE,
        f"{what}, which no commit would hold, so the training was ended: {INSTEAD}",
    )
