"""Calls the callbacks, and gives and takes their state."""

from types import MappingProxyType
from typing import Any

import keras
import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.callbacks.keeping import keeper_of
from rtj_trainer.errors import PermanentError
from rtj_trainer.kept import Kept, rehearse
from rtj_trainer.plain import Arrays, decode, encode
from rtj_trainer.results import as_numbers

_NEVER_CALLED = ("on_test_begin", "on_test_end", "on_test_batch_begin", "on_test_batch_end")


class CallbackRunner:
    """The callbacks of a job, in their order.

    Args:
        callbacks: What the builder's function returned.
        model: The compiled model.
        params: What Keras calls `params`: epochs and steps, None where they are not known.

    Raises:
        PermanentError: something is no callback, or its state cannot be kept.
    """

    def __init__(self, callbacks: Any, model: Any, params: dict[str, Any]) -> None:
        self.logs: Any = None
        """What the last step returned; at the end of an epoch it may be part of the results."""
        self.results: dict[str, Any] | None = None
        """Of the last epoch that ended; None before that."""
        self._model = model
        self._callbacks = _checked(callbacks)
        self._kept = Kept(
            [
                keeper_of(callback, model, f"the callback {number} ({type(callback).__name__})")
                for number, callback in enumerate(self._callbacks)
            ]
        )
        for callback in self._callbacks:
            _refuse_test_hooks(callback)
        model.stop_training = False
        for callback in self._callbacks:
            callback.set_params(MappingProxyType(params))  # What it kept there would be lost.
            callback.set_model(model)
            callback.on_train_begin({})
        self._before_batch = _with_own(self._callbacks, "on_train_batch_begin", "on_batch_begin")
        self._after_batch = _with_own(self._callbacks, "on_train_batch_end", "on_batch_end")
        rehearse(self.capture, self.restore, "a callback")

    @property
    def stopped(self) -> bool:
        """Whether a callback has ended the training."""
        return bool(self._model.stop_training)

    def describe(self) -> list[str]:
        """Return the name of each callback."""
        return [
            f"{number} ({type(callback).__name__})"
            for number, callback in enumerate(self._callbacks)
        ]

    def capture(self, arrays: Arrays) -> dict[str, Any]:
        """Return the state of all callbacks as JSON.

        Args:
            arrays: Gets the bytes of each array.

        Raises:
            PermanentError: `get_state` returned what cannot be saved.
        """
        document = {
            "stopTraining": self.stopped,
            "logs": encode(as_numbers(self.logs), arrays, "what the training step returns"),
            "states": self._kept.capture(arrays),
        }
        if self.results is not None:  # Commits of older versions have none, and a hash without.
            document["results"] = encode(self.results, arrays, "what an epoch ended with")
        return document

    def restore(self, document: dict[str, Any], arrays: Arrays) -> None:
        """Give every callback the state that `capture` returned."""
        self._model.stop_training = document["stopTraining"]
        self.logs = decode(document["logs"], arrays)
        self._kept.restore(document["states"], arrays)
        self.results = decode(document["results"], arrays) if "results" in document else None

    def variables(self) -> list[tf.Variable]:
        """Return the variables whose values their state tells."""
        return self._kept.variables()

    def epoch_begin(self, epoch: int) -> None:
        """Tell that an epoch begins; epochs count from 0."""
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch, {})

    def epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Tell that an epoch is over; a callback may add to what the next one is given."""
        self.results = dict(logs)
        for callback in self._callbacks:
            callback.on_epoch_end(epoch, logs)

    def batch_begin(self, batch: int) -> None:
        """Tell that a batch begins; batches count from 0 in each epoch."""
        for callback in self._before_batch:
            callback.on_train_batch_begin(batch, {})

    def batch_end(self, batch: int, logs: Any) -> None:
        """Tell that a batch is over, and what its step returned."""
        self.logs = logs
        # Reading the results waits for an accelerator, so it is done only for who wants them.
        values = as_numbers(logs) if self._after_batch else {}
        for callback in self._after_batch:
            callback.on_train_batch_end(batch, values)

    def train_end(self, logs: dict[str, Any]) -> None:
        """Tell that the job is over, and what its last epoch ended with, as `fit` does.

        Args:
            logs: Of the epoch that is not over, for a job that ends before any is.
        """
        logs = dict(logs if self.results is None else self.results)
        for callback in self._callbacks:
            callback.on_train_end(logs)


def _checked(callbacks: Any) -> list[Any]:
    found = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
    for callback in found:
        if not isinstance(callback, keras.callbacks.Callback):
            raise PermanentError(
                Reason.BUILDER_INVALID,
                "spec.builder.callbacksFunction must return a list of keras.callbacks.Callback, "
                f"not {type(callback).__name__}",
            )
    return found


def _refuse_test_hooks(callback: Any) -> None:
    for name in _NEVER_CALLED:
        if name in vars(callback) or not _is_default(getattr(callback, name)):
            raise PermanentError(
                Reason.PIPELINE_NOT_RESUMABLE,
                f"the callback {type(callback).__name__} has {name}, which the trainer does "
                "not call; use on_epoch_end, whose logs have the results of the validation",
            )


def _with_own(callbacks: list[Any], *names: str) -> list[Any]:
    return [
        callback
        for callback in callbacks
        if not all(_is_default(getattr(callback, name)) for name in names)
    ]


def _is_default(method: Any) -> bool:
    """Return whether a hook is the one that does nothing."""
    return bool(getattr(method, "_is_default", False))
