"""Callbacks that decide, and a validation that would disturb the training if it could."""

import hashlib
import logging
import os
import random
import sys
import time

import keras
import numpy as np
import shared
import tensorflow as tf
from builder import small_model
from rtj_trainer.data import indexed

SEEN = []


@tf.autograph.experimental.do_not_convert  # Nothing of it is to convert; that takes 40 ms.
def _example(numbers):
    value = tf.cast(numbers, tf.float32)
    x = tf.stack([tf.sin(value), tf.cos(value / 3.0), value / 100.0], axis=-1)
    return x, value[..., None] % 5.0


def known():
    """5 batches."""
    return indexed(40, 8).map(_example)


def unknown():
    """5 batches, which only reading them can tell."""
    numbers = tf.data.Dataset.range(80).shuffle(20).filter(lambda n: n % 2 == 0)
    return numbers.map(_example).batch(8)


def validation(shuffle: bool = True):
    """4 batches, in another order at each pass but for the trainer's care."""
    numbers = tf.data.Dataset.range(100, 116)
    return (numbers.shuffle(16) if shuffle else numbers).map(_example).batch(4)


def seeded_validation():
    """Draws with a seed that a kernel counts, from its beginning in each call."""
    drawn = tf.random.normal([], seed=3)
    return validation().map(lambda x, y: (x + drawn, y))


def endless():
    return validation().repeat()


def empty():
    return validation().take(0)


def impure():
    return validation().map(lambda x, y: (tf.numpy_function(np.copy, [x], tf.float32), y))


def another_each_time():
    drawn = random.SystemRandom().gauss()
    return validation().map(lambda x, y: (x + drawn, y))


class Noise(keras.layers.Layer):
    """Draws also while it is evaluated, from the generator that training draws from."""

    def call(self, inputs):
        return inputs + 0.01 * keras.random.normal(keras.ops.shape(inputs))


class Restless(keras.Sequential):
    """Changes what it should not while it is evaluated."""

    def test_step(self, data):
        self.layers[2].moving_mean.assign_add(tf.ones([6]))
        return super().test_step(data)


def build_model():
    model = Restless(
        [
            keras.Input((3,)),
            Noise(),
            keras.layers.Dense(6, "relu", use_bias=False),
            keras.layers.BatchNormalization(center=False, scale=False),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1, use_bias=False),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse", metrics=["mae"], jit_compile=False)
    return model


def build_with_attributes():
    """Has what Keras does not save: a variable, a generator and a list."""
    model = small_model()
    model.count = tf.Variable(0)
    model.generator = tf.random.Generator.from_seed(5)
    model.losses_seen = []
    return model


class OwnStep(keras.Sequential):
    """Returns a number that no metric keeps."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"own_loss": loss, "norm": tf.norm(gradients[0])}


def own_step():
    model = OwnStep([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=False)
    return model


class Telling(keras.Sequential):
    """Returns something else beside its loss, while it is trained or evaluated."""

    def __init__(self, layers, trained=None, tested=None):
        super().__init__(layers)
        self._trained, self._tested = trained, tested

    def train_step(self, data):
        return {**super().train_step(data), **(self._trained(data) if self._trained else {})}

    def test_step(self, data):
        return {**super().test_step(data), **(self._tested(data) if self._tested else {})}


TOLD = {
    "text": lambda data: {"note": tf.constant("fine")},
    "texts": lambda data: {"notes": tf.strings.as_string(data[1])},
    "sparse": lambda data: {"rows": tf.sparse.from_dense(data[0])},
    "complex": lambda data: {"phase": tf.complex(1.0, 2.0)},
    "numbers": lambda data: {
        "shape": tf.shape(data[0]),
        "many": tf.reduce_all(data[0] > 0.0, axis=0),
        "half": tf.cast(data[0][0, 0], tf.bfloat16),
        "by": {"name": tf.reduce_sum(data[0])},
    },
}


def tells(trained=None, tested=None):
    layers = [keras.Input((3,)), keras.layers.Dense(1)]
    model = Telling(layers, TOLD.get(trained), TOLD.get(tested))
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=False)
    return model


class Counting(keras.Sequential):
    """Counts the batches since its metrics were reset, by a method that `fit` calls."""

    def __init__(self, layers):
        super().__init__(layers)
        self.batches = tf.Variable(0)

    def reset_metrics(self):
        super().reset_metrics()
        self.batches.assign(0)

    def train_step(self, data):
        self.batches.assign_add(1)
        return {**super().train_step(data), "batches": self.batches + 0}

    def test_step(self, data):
        self.batches.assign_add(1)
        return {**super().test_step(data), "batches": self.batches + 0}


def counting():
    model = Counting([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=False)
    return model


def exiting():
    sys.exit()


class Recorder(keras.callbacks.Callback):
    """Writes down each call, and so what the commits tell of."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append(["train begin"])

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(["epoch begin", epoch])

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(["batch begin", batch])

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(["batch end", batch, logs["loss"] if "loss" in logs else logs["norm"]])

    def on_epoch_end(self, epoch, logs=None):
        weights = [np.asarray(weight).tobytes() for weight in self.model.trainable_weights]
        digest = hashlib.sha256(b"".join(weights)).hexdigest()
        self.calls.append(["epoch end", epoch, dict(logs), digest])

    def on_train_end(self, logs=None):
        self.calls.append(["train end", None, dict(logs)])

    def get_state(self):
        return self.calls

    def set_state(self, state):
        self.calls = state


class Shake(keras.callbacks.Callback):
    """Keeps nothing, and draws from the global generators of the host."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            drawn = {}
            drawn["scale"] = shared.scale()
            drawn.update(batch=batch)
            scale = (
                drawn["scale"]
                * abs(random.gauss())
                * np.random.rand()
                * float(tf.random.uniform([]))
            )
            self.model.optimizer.learning_rate = scale


def recorder(model):
    return [Recorder()]


def several(model):
    plateau = keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=5.0, cooldown=1)
    return [Shake(), plateau, Recorder()]


def scheduled(model, factor: float = 0.8):
    return [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * factor),
        keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: print("epoch", epoch)),  # noqa: T201
        keras.callbacks.TerminateOnNaN(),
        Recorder(),
    ]


def early(model, restore: bool = False, patience: int = 2):
    stopping = keras.callbacks.EarlyStopping(
        "val_loss", min_delta=100.0, patience=patience, restore_best_weights=restore
    )
    return [stopping, Recorder()]


class StopAtBatch(keras.callbacks.Callback):
    """Ends the job within its third epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 12:
            self.model.stop_training = True


def within_an_epoch(model):
    return [StopAtBatch(), Recorder()]


class StopAtOnce(keras.callbacks.Callback):
    """Ends the job before it begins."""

    def on_train_begin(self, logs=None):
        self.model.stop_training = True


def at_once(model):
    return [StopAtOnce(), Recorder()]


def best(model, path: str):
    return [keras.callbacks.ModelCheckpoint(path, "val_loss", save_best_only=True), Recorder()]


class CountsInVariable(keras.callbacks.Callback):
    """Stops by a variable of its own, whose value it tells."""

    def __init__(self):
        super().__init__()
        self.counts = {"epochs": tf.Variable(0)}

    def on_epoch_end(self, epoch, logs=None):
        self.counts["epochs"].assign_add(1)
        if self.counts["epochs"] >= 3:
            self.model.stop_training = True

    def get_state(self):
        return int(self.counts["epochs"])

    def set_state(self, state):
        self.counts["epochs"].assign(state)


def counts_in_variable(model):
    return [CountsInVariable(), Recorder()]


# From here on: what is refused.


class CountsInModel(keras.callbacks.Callback):
    """Keeps a number in a variable of the model that no step uses."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.count.assign_add(1)


class DrawsFromModel(keras.callbacks.Callback):
    """Draws from a generator of the model that no step uses."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.01 * float(self.model.generator.uniform([]))


class MakesVariable(keras.callbacks.Callback):
    """Has a new variable kept by a library."""

    def on_epoch_end(self, epoch, logs=None):
        logging.getLogger("watched").addHandler(_of_variable(tf.Variable(epoch)))


def _of_variable(variable):
    return logging.StreamHandler(variable)


class ImportsLate(keras.callbacks.Callback):
    """Keeps results in a list of a module that is imported there."""

    def on_epoch_end(self, epoch, logs=None):
        import shared as other

        other.SEEN.append(logs["loss"])


class ImportsFromLate(keras.callbacks.Callback):
    """Keeps results in a list that is imported there."""

    def on_epoch_end(self, epoch, logs=None):
        from shared import SEEN

        SEEN.append(logs["loss"])


class ImportsFirst(keras.callbacks.Callback):
    """Keeps results in a module that nothing has imported before."""

    def on_epoch_end(self, epoch, logs=None):
        import late

        late.SEEN.append(logs["loss"])


class Counts(keras.callbacks.Callback):
    """Keeps a number."""

    count = 0

    def on_epoch_end(self, epoch, logs=None):
        self.count += 1


class Appends(keras.callbacks.Callback):
    """Keeps results in a global."""

    def on_epoch_end(self, epoch, logs=None):
        SEEN.append(logs["loss"])


class SetsItem(keras.callbacks.Callback):
    """Keeps a number in the dict that Keras gives it."""

    def on_epoch_end(self, epoch, logs=None):
        self.params["worse"] = self.params.get("worse", 0) + 1


class ChangesModel(keras.callbacks.Callback):
    """Keeps results in a list of the model's."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.losses_seen.append(logs["loss"])


class OfModule(keras.callbacks.Callback):
    """Keeps results in a list of a module."""

    def on_epoch_end(self, epoch, logs=None):
        shared.SEEN.append(logs["loss"])


class Store:
    """Is shared by all who name it."""

    seen = []  # noqa: RUF012


class OfClass(keras.callbacks.Callback):
    """Keeps results in a list of another class."""

    def on_epoch_end(self, epoch, logs=None):
        Store.seen.append(logs["loss"])


class ByClock(keras.callbacks.Callback):
    """Stops after an hour, whichever step that is."""

    def on_epoch_end(self, epoch, logs=None):
        if time.time() > 2e9:
            self.model.stop_training = True


class Forgets(Recorder):
    """Returns less than it keeps."""

    def get_state(self):
        return len(self.calls)

    def set_state(self, state):
        self.calls = []


class Hides(Recorder):
    """Returns what cannot be saved."""

    def get_state(self):
        return {"generator": np.random.default_rng()}


class Tested(keras.callbacks.Callback):
    """Waits for a call that does not come."""

    def on_test_end(self, logs=None):
        pass


def _enclosed():
    total = 0.0

    def add(epoch, logs):
        nonlocal total
        total += logs["loss"]

    return keras.callbacks.LambdaCallback(on_epoch_end=add)


class Reseeds(Recorder):
    """Seeds everything in each epoch; its own state is not what a restart would lack."""

    def on_epoch_begin(self, epoch, logs=None):
        keras.utils.set_random_seed(100 + epoch)


class ReseedsElsewhere(keras.callbacks.Callback):
    """Has it done by a function that is not a callback's."""

    def on_epoch_begin(self, epoch, logs=None):
        shared.seed(epoch)


class CountsInTheKernel(Recorder):
    """Draws other numbers at each call, although it gives a seed."""

    def on_train_batch_end(self, batch, logs=None):
        tf.random.normal([2], 0.0, 1.0, tf.float32, 3)


REFUSED = {
    "reseeds": Reseeds,
    "reseeds_by_lambda": lambda: keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: tf.random.set_seed(epoch)
    ),
    "reseeds_elsewhere": ReseedsElsewhere,
    "counts_in_the_kernel": CountsInTheKernel,
    "counts": Counts,
    "counts_in_model": CountsInModel,
    "draws_from_model": DrawsFromModel,
    "makes_variable": MakesVariable,
    "imports": ImportsLate,
    "imports_from": ImportsFromLate,
    "imports_first": ImportsFirst,
    "appends": Appends,
    "sets_item": SetsItem,
    "changes_model": ChangesModel,
    "of_module": OfModule,
    "of_class": OfClass,
    "by_clock": ByClock,
    "forgets": Forgets,
    "hides": Hides,
    "tested": Tested,
    "enclosed": _enclosed,
    "csv": lambda: keras.callbacks.CSVLogger(os.devnull),
    "board": lambda: keras.callbacks.TensorBoard("logs"),
    "extends": lambda: type("Mine", (keras.callbacks.EarlyStopping,), {})("loss"),
    "no_callback": lambda: print,
}


def refused(model, name: str):
    return [REFUSED[name]()]
