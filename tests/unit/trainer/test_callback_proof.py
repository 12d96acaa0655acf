"""The proof that a callback keeps nothing: what it refuses, and what it must not refuse."""

import dataclasses
import functools
import os
from collections import deque
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from rtj_trainer.callbacks.keeping import keeper_of
from rtj_trainer.errors import PermanentError

pytestmark = pytest.mark.unit


class User(keras.Sequential):  # type: ignore[misc]
    """A model with methods and lists of its own."""

    at_class: list[int] = []  # noqa: RUF012

    def bump(self) -> None:
        self.bumps = 1

    def norms(self) -> list[float]:
        return [float(tf.norm(weight)) for weight in self.get_weights()]


def model_of(**attributes: Any) -> Any:
    model = User([keras.Input((1,)), keras.layers.Dense(1), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    for name, value in attributes.items():
        setattr(model, name, value)
    model.layers[0].seen = []
    return model


def calls(function: Any) -> Any:
    return type("Own", (keras.callbacks.Callback,), {"on_epoch_end": function})()


# A method each, as a user may write it; `seen` is a list of the model's.


def slices(self: Any, epoch: int, logs: Any = None) -> None:
    self.model.seen[:] = [epoch]


def by_super(self: Any, epoch: int, logs: Any = None) -> None:
    super(keras.callbacks.Callback, self).__setattr__("n", epoch)


def pops(self: Any, epoch: int, logs: Any = None) -> None:
    print(epoch, self.model.seen.pop())  # noqa: T201


def in_comprehension(self: Any, epoch: int, logs: Any = None) -> None:
    [self.model.seen.append(value) for value in logs]


def by_local(self: Any, epoch: int, logs: Any = None) -> None:
    seen = self.model.seen
    seen += [epoch]


def by_getattr(self: Any, epoch: int, logs: Any = None) -> None:
    getattr(self.model, "seen").append(epoch)  # noqa: B009


def by_any_getattr(self: Any, epoch: int, logs: Any = None) -> None:
    getattr(self.model, logs["name"]).append(epoch)


def by_match(self: Any, epoch: int, logs: Any = None) -> None:
    match self.model:
        case User(seen=found):
            found.append(epoch)


def of_layers(self: Any, epoch: int, logs: Any = None) -> None:
    for layer in self.model.layers:
        layer.seen.append(epoch)


def of_its_class(self: Any, epoch: int, logs: Any = None) -> None:
    self.model.at_class.append(epoch)


def by_method(self: Any, epoch: int, logs: Any = None) -> None:
    self.model.bump()


def sets_own_rate(self: Any, epoch: int, logs: Any = None) -> None:
    self.lr = 0.5
    self.model.optimizer.learning_rate = self.lr


def by_modules(self: Any, epoch: int, logs: Any = None) -> None:
    import sys

    sys.modules["shared"].SEEN.append(epoch)


def by_class(self: Any, epoch: int, logs: Any = None) -> None:
    global COUNT
    COUNT = epoch


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (slices, "sets an item of self.model.seen"),
        (by_super, "by __setattr__"),
        (pops, "uses seen of the model"),
        (in_comprehension, "uses seen of the model"),
        (by_local, "uses seen of the model"),
        (by_getattr, "uses seen of the model"),
        (by_any_getattr, "by getattr"),
        (by_match, "uses seen of the model"),
        (of_layers, "uses seen of the model"),
        (of_its_class, "uses at_class of the model"),
        (by_method, "User.bump sets the attribute bumps"),
        (sets_own_rate, "sets the attribute lr"),
        (by_modules, "by modules"),
        (by_class, "sets the global COUNT"),
    ],
)
def test_what_keeps_something_is_refused(method: Any, words: str) -> None:
    with pytest.raises(PermanentError) as error:
        keeper_of(calls(method), model_of(seen=[]), "it")
    assert words in str(error.value)


def by_in_place(self: Any, epoch: int, logs: Any = None) -> None:
    self.model.kept.difference_update({epoch})


@pytest.mark.parametrize(
    "kept", [{1, 2}, [1], {"a": 1}, deque([1]), np.zeros(3), np.random.default_rng(1), iter("abc")]
)
def test_no_object_that_changes_by_a_method_is_taken_from_a_model(kept: Any) -> None:
    with pytest.raises(PermanentError, match=r"uses kept of the model, which is a"):
        keeper_of(calls(by_in_place), model_of(kept=kept), "it")


def test_what_has_no_source_is_refused() -> None:
    made: dict[str, Any] = {}
    exec("def method(self, epoch, logs=None): pass", made)  # noqa: S102
    with pytest.raises(PermanentError, match="has no source that the check could read"):
        keeper_of(calls(made["method"]), model_of(), "it")


def counted(method: Any) -> Any:
    count = 0

    @functools.wraps(method)
    def wrapper(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        return method(*arguments)

    return wrapper


@counted
def wrapped(self: Any, epoch: int, logs: Any = None) -> None:
    pass


def adds_to_class(self: Any, epoch: int, logs: Any = None) -> None:
    Tally().add(epoch)


class Tally:
    """Keeps something in its class."""

    def add(self, value: int) -> None:
        Tally.total = value


def reseeds(self: Any, epoch: int, logs: Any = None) -> None:
    from keras.utils import set_random_seed as begin

    begin(epoch)


class Entered(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps something in a method that no name tells of."""

    def __enter__(self) -> None:
        self.count = 1

    def __exit__(self, *_: Any) -> None:
        pass

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with self:
            pass


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (calls(wrapped), "sets count of the enclosing function"),
        (calls(adds_to_class), "Tally.add sets the attribute total"),
        (calls(reseeds), "reseeds uses begin"),
        (Entered(), "attribute count"),
    ],
)
def test_methods_that_are_called_by_others_are_looked_at(callback: Any, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        keeper_of(callback, model_of(), "it")


class Meter:
    """Is made where it is used."""

    unit = "ms"

    def __init__(self) -> None:
        self.total, self.rows = 0.0, {"n": 0}

    def add(self, value: float) -> None:
        self.total += value
        self.rows["n"] += 1


@dataclasses.dataclass(eq=False)
class Drop(keras.callbacks.Callback):  # type: ignore[misc]
    """Has methods that are made from a text."""

    every: int = 2

    def __post_init__(self) -> None:
        super().__init__()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        meter = Meter()
        meter.add(logs["loss"])
        if epoch % self.every == 0 and meter.total > 1:
            self.model.optimizer.learning_rate *= 0.5


def test_what_is_made_in_a_call_and_a_dataclass_are_not_refused() -> None:
    assert keeper_of(Drop(), model_of(), "it").read() is None


class Ordinary(keras.callbacks.Callback):  # type: ignore[misc]
    """What users write."""

    threshold = 0.5

    def __init__(self, path: str, names: tuple[str, ...] = ("a", "b")) -> None:
        super().__init__()
        self.path, self.names = path, names
        self.peak = tf.constant(0.1)

    @property
    def warm(self) -> int:
        return int(self.params["epochs"] or 1) // 2

    def on_train_begin(self, logs: Any = None) -> None:
        print(len(self.model.layers), self.model.optimizer.get_config())  # noqa: T201

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        import math

        optimizer = self.model.optimizer
        if hasattr(optimizer, "learning_rate"):
            optimizer.learning_rate = self.peak * math.cos(epoch / max(self.warm, 1))
        optimizer.learning_rate.assign(0.01)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        losses = [value for name, value in logs.items() if name.endswith("loss")]
        losses.append(np.mean(losses))
        if not np.isfinite(losses).all():
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        rows = {}
        for layer in self.model.layers:
            rows[layer.name] = [float(tf.norm(weight)) for weight in layer.get_weights()]
        rows.update(all=self.model.norms(), loss=logs.get("loss"))
        for metric in self.model.metrics:
            print(metric.name, metric.result(), os.environ.get("HOME"))  # noqa: T201
        mean = getattr(self.model.get_layer(index=0), "kernel", None)
        self.report(*self.names, rows=rows, mean=mean)
        kernel = self.model.layers[0].kernel
        kernel.assign(keras.ops.clip(kernel, -1.0, 1.0))
        self.model.predict(np.zeros((1, 1)), verbose=0)
        if logs["loss"] < self.threshold:
            self.model.save_weights(self.path)
            self.model.stop_training = True

    @staticmethod
    def report(*names: str, **rows: Any) -> None:
        print(",".join(sorted(names, key=lambda name: name.lower())), rows)  # noqa: T201


def test_an_ordinary_callback_is_not_refused(tmp_path: Any) -> None:
    callback, model = Ordinary(str(tmp_path / "x.weights.h5")), model_of()
    keeper = keeper_of(callback, model, "it")
    model.train_on_batch(np.zeros((1, 1)), np.zeros((1, 1)))
    callback.set_params({"epochs": 3})
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(0, {"loss": 0.1})
    callback.on_epoch_end(0, {"loss": 0.1})
    assert keeper.read() is None


BOUND = 3


def reads_global(self: Any, epoch: int, logs: Any = None) -> None:
    if epoch > BOUND or epoch > self.model.bound:
        self.model.stop_training = True


@pytest.mark.parametrize("what", ["global", "model", "callback"])
def test_what_a_callback_reads_must_stay_as_it_is(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback, model = calls(reads_global), model_of(bound=3)
    keeper = keeper_of(callback, model, "it")
    assert keeper.read() is None
    if what == "global":
        monkeypatch.setitem(globals(), "BOUND", 4)
    elif what == "model":
        model.bound = 4
    else:
        callback.lr = 0.5
    with pytest.raises(PermanentError, match="keeps state between two calls"):
        keeper.read()
