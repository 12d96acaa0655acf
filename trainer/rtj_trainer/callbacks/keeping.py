"""How the state of each callback is read and written, or why it cannot be."""

from typing import Any, NoReturn

import keras
from rtj_api.names import Reason

from rtj_trainer.callbacks.reseeding import reseeds
from rtj_trainer.callbacks.stateless import Prover
from rtj_trainer.draws import INSTEAD, RESEEDS
from rtj_trainer.errors import PermanentError
from rtj_trainer.kept import Keeper

_KNOWN: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("best", "cooldown_counter", "wait"),
    keras.callbacks.ModelCheckpoint: (
        "best",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
        "_current_epoch",
    ),
    keras.callbacks.LearningRateScheduler: (),
    keras.callbacks.LambdaCallback: (),
    keras.callbacks.TerminateOnNaN: (),
}
"""Attributes that a later call depends on; those that on_train_begin makes included."""

_NOT_YET = ("_current_epoch",)
"""Attributes that are there from the first epoch on."""

_INSTEAD: dict[str, str] = {
    "BackupAndRestore": "leave it out: the trainer commits by itself, as spec.checkpoint says",
    "CSVLogger": "leave it out: a restart would lose or repeat lines of its file; the results of "
    "each epoch are in the trainer's log",
    "TensorBoard": "leave it out: its event files would have steps twice after a restart; write "
    "them with tf.summary from a callback that keeps nothing",
    "SwapEMAWeights": "leave it out: between its swaps the model has other weights than it trains",
}


def keeper_of(callback: Any, model: Any, name: str) -> Keeper:
    """Return how a callback is kept; nothing of it is called here.

    Args:
        callback: A keras.callbacks.Callback.
        model: The job's.
        name: For messages.

    Raises:
        PermanentError: `PipelineNotResumable`: its state cannot be kept, and what to do.
    """
    if where := reseeds(callback):
        _refuse(name, f"{RESEEDS} ({where})", INSTEAD)
    if callable(getattr(callback, "get_state", None)) and callable(
        getattr(callback, "set_state", None)
    ):
        return Keeper(name, callback.get_state, callback.set_state, callback)
    kind = type(callback)
    if kind in _KNOWN:
        return _by_attributes(callback, model, name, _KNOWN[kind])
    if any(base in _KNOWN or base.__module__.startswith("keras.") for base in _between(kind)):
        _refuse(name, "is or extends one of Keras that cannot be kept", _mend(kind))
    prover = Prover(model)
    if kept := prover.callback_keeps(callback):
        _refuse(name, f"keeps state between two calls ({kept})", _PROTOCOL)
    return Keeper(name, lambda: _check(prover, name), lambda _: None)


_PROTOCOL = (
    "give it the methods get_state(self), which returns numbers, texts, arrays, or lists, tuples "
    "and dicts of such, and set_state(self, state); or let it keep nothing, and hold a tuple "
    "instead of a list"
)


def _by_attributes(callback: Any, model: Any, name: str, attributes: tuple[str, ...]) -> Keeper:
    prover = Prover(model)
    for attribute, value in vars(callback).items():
        given = attribute == "schedule" or attribute.startswith("on_")
        if given and (kept := prover.value_keeps(f"its {attribute}", value)):
            _refuse(name, f"keeps state between two calls ({kept})", _PROTOCOL)

    def read() -> Any:
        _check(prover, name)
        missing = [key for key in attributes if not hasattr(callback, key) and key not in _NOT_YET]
        if missing:
            what = f"has no attribute {missing[0]} in Keras {keras.__version__}, but maybe another"
            _refuse(name, what, "use another version of Keras")
        return {key: getattr(callback, key) for key in attributes if hasattr(callback, key)}

    def write(state: Any) -> None:
        for key, value in state.items():
            setattr(callback, key, value)
        # Keras finds out which is better, less or more, at the end of a process's first epoch; a
        # ModelCheckpoint with save_freq compares with the best before that.
        if "_current_epoch" in state and callback.monitor_op is None:
            callback._set_monitor_op()

    return Keeper(name, read, write)


def _check(prover: Prover, name: str) -> None:
    """Return if a callback still keeps nothing but what is known of it."""
    if changed := prover.changed():
        why = f"keeps state between two calls ({changed}), which no commit would hold"
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE, f"{name} {why}, so the training was ended: {_PROTOCOL}"
        )


def _between(kind: type) -> list[type]:
    """Return a class and its bases as far as keras.callbacks.Callback, which is left out."""
    bases = kind.__mro__
    return list(bases[: bases.index(keras.callbacks.Callback)])


def _mend(kind: type) -> str:
    names = [base.__name__ for base in _between(kind)]
    return next((_INSTEAD[name] for name in names if name in _INSTEAD), _PROTOCOL)


def _refuse(name: str, why: str, mend: str) -> NoReturn:
    raise PermanentError(
        Reason.PIPELINE_NOT_RESUMABLE,
        f"{name} {why}, which no commit would hold, so training was not started: {mend}",
    )
