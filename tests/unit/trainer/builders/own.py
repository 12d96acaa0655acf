"""Programs that take their steps themselves, each with state in many places, and wrong ones."""

import itertools
import os
import random
import signal
import sys

import keras
import numpy as np
import tensorflow as tf
from builder import (  # noqa: F401 - functions of jobs
    build_model,
    by_index,
    shuffled,
    small_model,
)


def die_at(place):
    """Be killed where the test says, in the middle of the program's own code."""
    if os.environ.get("DIE_AT") == place:
        os.kill(os.getpid(), signal.SIGKILL)


class Best:
    """What a program keeps in Python."""

    def __init__(self):
        self.value, self.epochs, self.drawn = float("inf"), [], np.zeros(2)

    def get_state(self):
        return {"value": self.value, "epochs": self.epochs, "drawn": self.drawn}

    def set_state(self, state):
        self.value, self.epochs, self.drawn = state["value"], state["epochs"], state["drawn"]


def two_optimizers(session, eager=False):
    encoder = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.3)]
    )
    head = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    slow, fast = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.05, momentum=0.9)
    slow.build(encoder.trainable_variables)
    fast.build(head.trainable_variables)
    noise, mean, best = tf.random.Generator.from_seed(1), keras.metrics.Mean(), Best()
    frozen = tf.Variable([1.0, 2.0, 3.0])
    session.track(models=[encoder, head], slow=slow, fast=fast, noise=noise, mean=mean, best=best)

    def step(x, y):
        with tf.GradientTape(persistent=True) as tape:
            hidden = encoder(x * frozen + 0.01 * noise.normal(tf.shape(x)), training=True)
            loss = tf.reduce_mean((head(hidden)[:, 0] - y) ** 2)
        for model, optimizer in ((encoder, slow), (head, fast)):
            found = model.trainable_variables
            optimizer.apply(tape.gradient(loss, found), found)
        mean.update_state(loss)

    if not eager:
        step = tf.function(step, reduce_retracing=True)
    for x, y in session.steps():
        die_at(f"before {session.step}")
        step(x, y * (1 + 0.01 * random.random()))  # noqa: S311
        die_at(f"after {session.step}")
        if session.ends_epoch:
            value = float(mean.result())
            best.drawn = best.drawn + np.random.normal(size=2)
            best.epochs.append([session.epoch, session.step, value])
            die_at(f"epoch {session.epoch}")
            if value > best.value:
                slow.learning_rate = slow.learning_rate * 0.5
            best.value = min(best.value, value)
            mean.reset_state()
    print("trained:", [epoch for epoch, _, _ in best.epochs], session.step)  # noqa: T201
    die_at("end")


def towers(session):
    """Hand over layers and states by name, made in another order in every second attempt."""
    names = ["a", "b", "c"][:: -1 if os.environ["RTJ_POD_UID"][-1] in "02468" else 1]
    layers = {name: keras.layers.Dense(1) for name in names}
    kept = {name: Best() for name in names}
    for layer in layers.values():
        layer.build((None, 1))
    for name in names:
        session.track(**{f"layer_{name}": layers[name]})
    weights = [weight for name in sorted(names) for weight in layers[name].trainable_variables]
    others = {name: tf.Variable(0.0) for name in names}
    session.track(others=others, kept=kept)
    for x, y in session.steps():
        with tf.GradientTape() as tape:
            parts = [layers[name](x[:, i : i + 1]) for i, name in enumerate(sorted(names))]
            loss = tf.reduce_mean((sum(parts)[:, 0] - y) ** 2)
        found = tape.gradient(loss, [weight.value for weight in weights])
        for i, (weight, gradient) in enumerate(zip(weights, found, strict=True)):
            weight.assign(weight - 0.01 * (i + 1) * gradient)
        for i, name in enumerate(sorted(names)):
            others[name].assign_add(i * loss)
            kept[name].epochs = [*kept[name].epochs, i]


def stops(session, samples):
    total = tf.Variable(0.0)
    session.track(total=total)
    for x, _ in session.steps():
        total.assign_add(tf.reduce_sum(x))
        tf.io.write_file(f"{samples}/{session.step}", str(total.numpy()))
        if session.step == 16:
            session.stop()


class Pair(keras.Model):
    """Two layers of one shape, whose lines may change places."""

    def __init__(self, swapped):
        super().__init__()
        if swapped:
            self.second = keras.layers.Dense(3)
            self.first = keras.layers.Dense(3)
        else:
            self.first = keras.layers.Dense(3)
            self.second = keras.layers.Dense(3)

    def call(self, x):
        return tf.reduce_sum(self.first(x) - 0.5 * self.second(x), axis=-1)


def two_alike(session, in_optimizer=False):
    """Change two lines in every second attempt, as an edit between two attempts would."""
    is_changed = os.environ["RTJ_POD_UID"][-1] in "02468"
    keras.layers.Dense(3)  # A layer that is not used changes the numbers in Keras's names only.
    if is_changed:
        keras.layers.Dense(3)
    model = Pair(swapped=is_changed and not in_optimizer)
    model(tf.zeros([1, 3]))
    trained = [model.first, model.second][:: -1 if is_changed and in_optimizer else 1]
    optimizer = keras.optimizers.Adam(0.01)
    found = [weight for layer in trained for weight in layer.trainable_variables]
    optimizer.build(found)
    session.track(model=model, optimizer=optimizer)
    for x, y in session.steps():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        optimizer.apply(tape.gradient(loss, [weight.value for weight in found]), found)


def validation():
    return shuffled(40).map(lambda element: element.data)


def fitted(session, restore=True):
    extra = tf.Variable(0.0)
    session.track(extra=extra)
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=restore),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=10.0),
    ]
    model = build_model()
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], jit_compile=False)
    session.fit(model, callbacks=callbacks, validation=validation)


class Stopping(keras.callbacks.Callback):
    """Ends the job after step 17, or with the first epoch."""

    def __init__(self, session, within):
        super().__init__()
        self._session, self._within = session, within

    def get_state(self):
        return None

    def set_state(self, state):
        pass

    def on_train_batch_end(self, batch, logs=None):
        if self._within and self._session.step == 16:
            self._session.stop()

    def on_epoch_end(self, epoch, logs=None):
        if not self._within:
            self._session.stop()


def fitted_and_stopped(session, within):
    session.fit(small_model(), callbacks=[Stopping(session, within)])


def _variable(session):
    total = tf.Variable(0.0)
    session.track(total=total)
    return total


def forgets_a_variable(session):
    _variable(session)
    counter = tf.Variable(0.0, name="counter")
    for _ in session.steps():
        counter.assign_add(1.0)


def forgets_an_optimizer(session):
    model = small_model()
    session.track(model=model.layers)
    optimizer = keras.optimizers.Adam()
    for x, _ in session.steps():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x, training=True))
        found = model.trainable_variables
        optimizer.apply(tape.gradient(loss, found), found)


def forgets_later(session):
    total, late = _variable(session), tf.Variable(0.0, name="late")
    for _ in session.steps():
        total.assign_add(1.0)
        if session.step == 2:
            late.assign(1.0)


def makes_a_variable_in_a_step(session):
    total, made = _variable(session), []
    for _ in session.steps():
        total.assign_add(1.0)
        made = made or [tf.Variable(0.0, name="late")]


def hands_over_what_is_not_built(session):
    session.track(optimizer=keras.optimizers.Adam())


def hands_over_a_list_of_numbers(session):
    session.track(history=[1.0])


def hands_over_by_object(session):
    session.track(layers={keras.layers.Dense: tf.Variable(0.0)})


def hands_over_what_is_only_read(session):
    class OnlyRead:
        def get_state(self):
            return 1

    session.track(counter=OnlyRead())


def hands_over_too_late(session):
    steps = session.steps()
    session.track(total=tf.Variable(0.0))
    next(steps)


def draws_in_a_function(session):
    total = _variable(session)

    @tf.function
    def step():
        total.assign_add(tf.random.normal([]))

    for _ in session.steps():
        step()


def reseeds(session):
    total = _variable(session)
    for _ in session.steps():
        keras.utils.set_random_seed(session.step)
        total.assign_add(keras.random.normal([]))


def counts_in_the_kernel(session):
    total = _variable(session)
    total.assign(tf.random.normal([], seed=3))  # Before the steps it is the same in each attempt.
    for _ in session.steps():
        total.assign_add(tf.random.normal([], seed=3))


def fits_and_reseeds(session):
    class Reseeds(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            keras.utils.set_random_seed(epoch)

    session.fit(small_model(), callbacks=[Reseeds()])


def reads_another_dataset(session):
    total, other = _variable(session), iter(tf.data.Dataset.range(1000))
    for _ in session.steps():
        total.assign_add(tf.cast(next(other), tf.float32))


def steps_twice(session):
    total = _variable(session)
    for _ in range(2):
        for _ in session.steps():
            total.assign_add(1.0)


def leaves_the_loop(session):
    total = _variable(session)
    for _ in session.steps():
        total.assign_add(1.0)
        if session.step == 7:
            break


def stops_and_leaves(session, step):
    total = _variable(session)
    for x, _ in session.steps():
        total.assign_add(tf.reduce_sum(x))
        if session.step == step:
            session.stop()
            break


def stops_before_the_loop(session):
    _variable(session)
    session.steps()
    session.stop()


def exits(session, step, code=0):
    total = _variable(session)
    for _ in session.steps():
        total.assign_add(1.0)
        if session.step == step:
            sys.exit(code)
    sys.exit(code)


def does_nothing(session):
    _variable(session)


def gives_a_dataset(session):
    _variable(session)
    session.steps(tf.data.Dataset.range(3))


def gives_a_generator(session):
    _variable(session)
    signature = tf.TensorSpec([], tf.int64)
    session.steps(lambda: tf.data.Dataset.from_generator(range, output_signature=signature))


def gives_what_json_cannot_hold(session):
    list(session.steps(shuffled, fill=float("nan")))


def gives_the_same_object(session):
    _variable(session)
    dataset = tf.data.Dataset.range(30).shuffle(30)
    session.steps(lambda: dataset)


def fits_by_keras(session):
    model = small_model()
    model.optimizer.build(model.trainable_variables)
    session.track(model=model)
    model.fit(batch for batch in session.steps())


def _ahead(batches):
    before = next(batches)
    for batch in batches:
        yield before
        before = batch
    yield before


def looks_ahead(session):
    total = _variable(session)
    for x, _ in _ahead(session.steps()):
        total.assign_add(tf.reduce_sum(x))


def takes_pairs(session):
    total = _variable(session)
    for (x, _), _ in itertools.pairwise(session.steps()):
        total.assign_add(tf.reduce_sum(x))


def _passed_on(batches):
    yield from ((x, y) for x, y in batches)


def passes_on(session):
    """Has generators around the batches that give each one on at once."""
    total = _variable(session)
    for _, (x, _) in enumerate(_passed_on(session.steps())):
        total.assign_add(tf.reduce_sum(x) * session.step)


def fits_with_a_csv_log(session):
    session.fit(small_model(), callbacks=[keras.callbacks.CSVLogger("log.csv")])


def fits_a_model_with_its_own_fit(session):
    class Mine(keras.Sequential):
        def fit(self, *args, **kwargs):
            return None

    session.fit(Mine([keras.Input((3,)), keras.layers.Dense(1)]))
