"""What a program gives to the session, or gets from it, in a way that cannot be exact: said so."""

import inspect
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import keras
import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.errors import PermanentError


@dataclass(frozen=True)
class Source:
    """The function that builds the dataset."""

    build: Callable[[], Any]
    identity: dict[str, Any]
    params: dict[str, Any]
    is_of_job: bool


def given(build: Any, params: dict[str, Any]) -> Source:
    """Return the function that a program gave, with its parameters.

    Raises:
        PermanentError: it is none, or the parameters cannot be compared at a restart.
    """
    if not callable(build):
        hint = "build it in a function and give that" if isinstance(build, tf.data.Dataset) else ""
        misused(
            f"session.steps() takes the function that builds the dataset, not a "
            f"{type(build).__name__}: only what is built anew from the seed can be checked and "
            f"resumed; {hint or 'see its description'}"
        )
    name = getattr(build, "__qualname__", type(build).__name__)
    plain = {param: _as_json(name, param, value) for param, value in params.items()}

    def checked() -> Any:
        dataset = build(**params)
        if not isinstance(dataset, tf.data.Dataset):
            misused(f"{name} must return a tf.data.Dataset, not {type(dataset).__name__}")
        return dataset

    return Source(checked, {"function": name, **plain}, plain, is_of_job=False)


def _as_json(function: str, param: str, value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PermanentError(
            Reason.PARAMS_INVALID,
            f"session.steps(): the parameter {param} of {function} is {str(value)[:80]}, but must "
            f"be what JSON can hold, since it is compared at a restart: {error}; leave out what "
            "the function can find by itself",
        ) from error


class Steps:
    """The batches; not a generator, which `model.fit` would take, and read ahead of the steps."""

    def __init__(self, elements: Iterator[Any]) -> None:
        self._elements = elements
        self._thread = threading.get_ident()
        self._holder: FrameType | None = None
        """A generator that was given a batch, and has not yielded since."""
        self._is_first = True
        self._unused = False
        """Whether the first batch was given, and the program has called nothing since."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        # First, since a call of ours looks like one of the program's.
        asking, unused = sys._getframe(1), self._unused
        if threading.get_ident() != self._thread or _is_read_by_keras():
            misused(
                "the batches of session.steps() are read ahead of the steps, as model.fit and "
                "other threads do, so steps would be counted before they are taken: "
                "use session.fit(model, …), or take each step in the loop"
            )
        if asking is self._holder:
            misused(
                f"the generator {asking.f_code.co_name} asked session.steps() for a batch again "
                "before it yielded the one that it was given, as one that looks ahead does, so "
                "steps would be counted before they are taken: yield each batch before asking for "
                "the next, or take the steps in a function that is no generator; "
                "session.ends_epoch tells which batch is the last of its epoch"
            )
        if unused:
            misused(
                "session.steps() was asked for its second batch before anything was done with the "
                "first, as itertools.pairwise(), zip() of the batches with themselves and list() "
                "do, so steps would be counted before they are taken: take a step with each batch "
                "before the next one is asked for; session.ends_epoch tells which batch is the "
                "last of its epoch"
            )
        element = next(self._elements)
        self._watch(asking)
        return element

    def _watch(self, asking: FrameType) -> None:
        """Note whether a generator holds a batch, and whether anything is done with the first."""
        is_first, self._is_first = self._is_first, False
        if sys.getprofile():
            return  # Somebody measures the program.
        self._holder, self._unused = asking if _is_generator(asking) else None, is_first

        def see(frame: FrameType, event: str, _: Any) -> None:
            if event == "return" and frame is asking:
                self._holder = None
            elif event == "call" and not _only_passes_on(frame):
                self._unused = False
            if self._holder is None and not self._unused:
                sys.setprofile(None)

        if self._holder or self._unused:
            # Only this tells that a generator yields, or that a step is taken, which has to call
            # functions of Python; it is soon, so it costs next to nothing.
            sys.setprofile(see)


def _is_generator(frame: FrameType) -> bool:
    return bool(frame.f_code.co_flags & inspect.CO_GENERATOR)


def _only_passes_on(frame: FrameType) -> bool:
    """Return whether a call uses no batch, unless it calls others: one that asks for the next."""
    return _is_generator(frame) or frame.f_code is Steps.__next__.__code__


def _is_read_by_keras() -> bool:
    frame: FrameType | None = sys._getframe(2)
    while frame:
        if frame.f_globals.get("__name__", "").startswith("keras.src.trainers.data_adapters"):
            return True
        frame = frame.f_back
    return False


def check_fit(model: Any) -> None:
    """Return if `session.fit` trains a model as its own `fit` would.

    Raises:
        PermanentError: `BuilderInvalid`.
    """
    if not isinstance(model, keras.Model):
        misused(f"session.fit() takes a compiled keras.Model, not a {type(model).__name__}")
    for name in ("fit", "make_train_function", "make_test_function"):
        if getattr(type(model), name) is not getattr(keras.Model, name):
            misused(
                f"{type(model).__name__} has a {name} of its own, which session.fit() does not "
                "call; give it a train_step instead, or write the loop with session.steps()"
            )


def misused(why: str) -> NoReturn:
    """Refuse a program that uses the session wrongly.

    Raises:
        PermanentError: `BuilderInvalid`.
    """
    raise PermanentError(Reason.BUILDER_INVALID, why)
