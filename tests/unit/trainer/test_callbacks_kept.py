"""A callback of Keras goes on after a restart, at any of its calls, as if there had been none.

What it does is what it prints, the weights and the learning rate that it leaves, and its stop.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from rtj_trainer.callbacks import CallbackRunner
from rtj_trainer.callbacks.keeping import keeper_of
from rtj_trainer.errors import PermanentError

pytestmark = pytest.mark.unit

BATCHES = 5
LOSSES = [5.0, 3.0, 4.0, 3.5, 3.2, 3.1, 3.3, 3.6]
"""At the end of each epoch; within it, the loss falls to that."""

CALLBACKS: dict[str, Callable[[Path], Any]] = {
    "early": lambda _: keras.callbacks.EarlyStopping(
        "loss", patience=4, restore_best_weights=True, verbose=1
    ),
    "plateau": lambda _: keras.callbacks.ReduceLROnPlateau(
        "loss", factor=0.5, patience=2, cooldown=2, verbose=1
    ),
    "best of epochs": lambda folder: keras.callbacks.ModelCheckpoint(
        folder / "best.weights.h5", "loss", save_best_only=True, save_weights_only=True, verbose=1
    ),
    "best of batches": lambda folder: keras.callbacks.ModelCheckpoint(
        *(folder / "best.weights.h5", "loss"),
        save_best_only=True,
        save_weights_only=True,
        save_freq=7,
        verbose=1,
    ),
}


CALLS = len(LOSSES) * (BATCHES + 2)


def model_of() -> Any:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


class Training:
    """A model with a callback, and the calls of it that `fit` makes."""

    def __init__(self, callback: Any) -> None:
        self.model = model_of()
        self.model.set_weights([weight * 0.0 for weight in self.model.get_weights()])
        self.runner = CallbackRunner([callback], self.model, {})

    def restarted(self, callback: Any) -> "Training":
        """Return what a new process makes of a commit."""
        arrays: dict[str, Any] = {}
        document = json.dumps(self.runner.capture(arrays))
        other = Training(callback)
        other.model.set_weights(self.model.get_weights())
        other.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate)
        other.runner.restore(json.loads(document), arrays)
        return other

    def call(self, number: int) -> None:
        epoch, place = divmod(number, BATCHES + 2)
        if place == 0:
            self.runner.epoch_begin(epoch)
        elif place <= BATCHES:
            self.runner.batch_begin(place - 1)
            self.model.set_weights([weight + 1.0 for weight in self.model.get_weights()])
            self.runner.batch_end(place - 1, {"loss": LOSSES[epoch] + BATCHES - place})
        else:
            self.runner.epoch_end(epoch, {"loss": LOSSES[epoch]})

    def end(self) -> list[Any]:
        self.runner.train_end({})
        rate = float(self.model.optimizer.learning_rate)
        return [weight.tolist() for weight in self.model.get_weights()] + [rate]

    def go_on(self, number: int) -> list[Any]:
        while number < CALLS and not self.runner.stopped:
            self.call(number)
            number += 1
        return [*self.end(), number]


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_of_keras_goes_on_from_each_of_its_calls(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = CALLBACKS[name]
    end = Training(make(tmp_path)).go_on(0)
    capsys.readouterr()
    training, told = Training(make(tmp_path)), []
    for number in range(end[-1]):
        training.call(number)
        told.append(capsys.readouterr().out)
    training.end()
    told.append(capsys.readouterr().out)
    assert any(told), "it does something that can be seen"

    training = Training(make(tmp_path))
    for number in range(end[-1] + 1):
        if number % 3 == 0 or number == end[-1]:  # Each place in an epoch, and the end.
            after = training.restarted(make(tmp_path))
            capsys.readouterr()
            assert after.go_on(number) == end, f"restarted before call {number}"
            assert capsys.readouterr().out == "".join(told[number:])
        if number < end[-1]:
            training.call(number)


def test_a_version_of_keras_in_which_a_callback_keeps_something_else_is_refused() -> None:
    callback = keras.callbacks.ReduceLROnPlateau()
    callback.set_model(model_of())
    callback.on_train_begin()
    del callback.cooldown_counter
    with pytest.raises(PermanentError, match="no attribute cooldown_counter in Keras"):
        keeper_of(callback, callback.model, "it").read()


LIMIT = 1


def test_a_function_that_a_callback_of_keras_calls_must_go_on_by_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    callback = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 if epoch < LIMIT else 0.01)
    keeper = keeper_of(callback, model_of(), "it")
    assert keeper.read() == {}
    monkeypatch.setattr(sys.modules[__name__], "LIMIT", 2)
    with pytest.raises(PermanentError, match="no longer what it was before the first step"):
        keeper.read()


SEEN: list[int] = []


@pytest.mark.parametrize(
    "make",
    [
        lambda function: keras.callbacks.LambdaCallback(on_epoch_end=function),
        keras.callbacks.LearningRateScheduler,
    ],
    ids=["LambdaCallback", "LearningRateScheduler"],
)
def test_a_function_that_keeps_something_is_refused_in_a_callback_of_keras_too(make: Any) -> None:
    callback = make(lambda epoch, _: SEEN.append(epoch))
    with pytest.raises(PermanentError, match="uses SEEN, which is a list"):
        keeper_of(callback, model_of(), "it")
