"""Models that keep what the next step depends on in all the places where a user may keep it."""

import os
import random

import keras
import numpy as np
import tensorflow as tf
from rtj_trainer.data import indexed

_GENERATOR = tf.random.Generator.from_seed(3)
_COUNTER = tf.Variable(0, dtype=tf.int64, trainable=False)
_HOST = np.random.default_rng(4)


def build_dataset():
    def batch(numbers):
        value = tf.cast(numbers, tf.float32)
        x = tf.stack([tf.sin(value), tf.cos(value / 3.0), value / 100.0], axis=-1)
        return x, value[:, None] % 5.0

    return indexed(80, 8).map(batch)


def _layers(**options):
    return [
        keras.Input((3,)),
        keras.layers.Dense(6, "relu", use_bias=False, **options),
        keras.layers.BatchNormalization(center=False, scale=False, **options),
        keras.layers.Dropout(0.3, **options),
        keras.layers.Dense(1, use_bias=False, **options),
    ]


def _compiled(model, optimizer="adam"):
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    return model


def accumulation():
    """Gradients are summed over three steps, and commits fall between."""
    return _compiled(
        keras.Sequential(_layers()), keras.optimizers.Adam(0.01, gradient_accumulation_steps=3)
    )


def moving_average():
    optimizer = keras.optimizers.Adam(
        0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4
    )
    return _compiled(keras.Sequential(_layers()), optimizer)


def schedule():
    rate = keras.optimizers.schedules.CosineDecayRestarts(0.01, 7)
    return _compiled(keras.Sequential(_layers()), keras.optimizers.SGD(rate, momentum=0.9))


def float16():
    """The loss scale doubles every third step, and halves when a gradient is not finite."""
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=2.0**14, dynamic_growth_steps=3
    )
    return _compiled(keras.Sequential(_layers(dtype="mixed_float16")), optimizer)


def bfloat16():
    """In so few bits Adam's usual beta_2 is 1, and its weights would stay as they are."""
    optimizer = keras.optimizers.Adam(0.05, beta_2=0.9)
    return _compiled(keras.Sequential(_layers(dtype="bfloat16")), optimizer)


def stateful_layers():
    model = keras.Sequential(
        [
            keras.Input((3,), batch_size=8),
            keras.layers.Reshape((3, 1)),
            keras.layers.LSTM(4, stateful=True),
            keras.layers.SpectralNormalization(keras.layers.Dense(3)),
            keras.layers.GaussianNoise(0.1, seed=5),
            keras.layers.Dense(1),
        ]
    )
    return _compiled(model)


class SeveralOptimizers(keras.Sequential):
    """Two optimizers by turns, and results that no metric of the model keeps."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        if not hasattr(self, "second"):
            self.second = keras.optimizers.SGD(0.01, momentum=0.9)
        self.optimizer.apply(gradients[:1], self.trainable_variables[:1])
        self.second.apply(gradients[1:], self.trainable_variables[1:])
        return {"own_loss": loss}


def several_optimizers():
    return _compiled(SeveralOptimizers(_layers()))


class Disturbed(keras.Sequential):
    """Adds to the targets what a function of the step draws or counts."""

    def __init__(self, disturb):
        super().__init__([keras.Input((3,)), keras.layers.Dense(1)])
        self.disturb = disturb

    def train_step(self, data):
        x, y = data
        return super().train_step((x, y + tf.cast(self.disturb(y), y.dtype)))


def generator_of_the_model():
    own = tf.random.Generator.from_seed(2)
    return _compiled(Disturbed(lambda y: own.normal(tf.shape(y))))


def generator_of_the_module():
    return _compiled(Disturbed(lambda y: _GENERATOR.normal(tf.shape(y))))


def global_generators():
    def draw(y):
        ours = tf.random.get_global_generator().normal(tf.shape(y))
        return ours + keras.random.normal(tf.shape(y))

    return _compiled(Disturbed(draw))


def counter_that_is_only_added_to():
    return _compiled(Disturbed(lambda y: _COUNTER.assign_add(1) % 7))


def variable_that_is_only_read_every_other_step():
    count, kept = tf.Variable(0), tf.Variable(0.0)

    def remember(y):
        even = count.assign_add(1) % 2 == 0
        return tf.cond(even, lambda: kept.read_value(), lambda: kept.assign(tf.reduce_sum(y)))

    return _compiled(Disturbed(remember))


def host_generators():
    """Python's and NumPy's generators give constants and initial weights; a callback draws on."""
    scale, shift, own = random.gauss(), float(np.random.normal()), float(_HOST.normal())
    model = Disturbed(lambda y: scale * y + shift + own)
    model.layers[0].kernel.assign(np.random.normal(size=(3, 1)))
    return _compiled(model)


class DrawsOnTheHost(keras.callbacks.Callback):
    """Moves both generators on with each step, so that no start has them where a commit does."""

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = 0.01 * abs(random.gauss()) * np.random.rand()


def draws_on_the_host(model):
    return [DrawsOnTheHost()]


# From here on: what cannot be exact.


def table_that_the_step_fills():
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)

    def remember(y):
        seen = tf.ensure_shape(table.lookup(tf.constant(1, tf.int64)), [])
        table.insert(tf.constant(1, tf.int64), seen + 1.0)
        return seen

    return _compiled(Disturbed(remember))


def variable_of_text():
    text = tf.Variable("nothing", trainable=False)

    def remember(y):
        text.assign("something")
        return tf.constant(0.0)

    return _compiled(Disturbed(remember))


def iterator_in_the_step():
    other = iter(tf.data.Dataset.range(10).repeat())
    return _compiled(Disturbed(lambda y: next(other)))


def queue_in_the_step():
    queue = tf.queue.FIFOQueue(100, [tf.float32], [()])
    queue.enqueue_many(tf.range(100.0))
    return _compiled(Disturbed(lambda y: queue.dequeue()))


def sampled_loss():
    weights, biases = tf.Variable(tf.ones([50, 1])), tf.Variable(tf.zeros([50]))

    def loss(y):
        labels = tf.cast(y, tf.int64)
        return tf.nn.sampled_softmax_loss(weights, biases, labels, y, 5, 50)[:, None]

    return _compiled(Disturbed(loss))


def time_in_the_step():
    return _compiled(Disturbed(lambda y: tf.timestamp() % 1.0))


def functions_run_eagerly():
    tf.config.run_functions_eagerly(True)
    return _compiled(keras.Sequential(_layers()))


def another_constant_each_time():
    drawn = float(np.random.default_rng().normal())
    return _compiled(Disturbed(lambda y: drawn))


def another_large_constant_each_time():
    """TensorFlow captures one of more than 128 elements instead of writing it into the graph."""
    drawn = tf.constant(np.random.default_rng().normal(size=200).astype("float32"))
    return _compiled(Disturbed(lambda y: tf.reduce_sum(y * drawn)))


def other_texts_each_time():
    texts = tf.constant(_turned([str(number) for number in range(200)]))
    return _compiled(Disturbed(lambda y: tf.strings.to_number(texts[0])))


def _turned(items):
    """Return a list, but turned around in every second attempt, as a set may be."""
    return items[:: -1 if os.environ["RTJ_POD_UID"][-1] in "02468" else 1]


def another_vocabulary_each_time():
    lookup = keras.layers.StringLookup(vocabulary=_turned(["0.0", "1.0", "2.0", "3.0", "4.0"]))
    return _compiled(Disturbed(lambda y: tf.cast(lookup(tf.strings.as_string(y, 1)), tf.float32)))


def another_vocabulary_in_a_branch_each_time():
    words = tf.constant(_turned(["0.0", "1.0", "2.0", "3.0", "4.0"]))
    initial = tf.lookup.KeyValueTensorInitializer(words, tf.range(5.0))
    table = tf.lookup.StaticHashTable(initial, -1.0)

    def looked_up(y):
        return tf.cond(
            tf.reduce_sum(y) > 0.0,
            lambda: table.lookup(tf.strings.as_string(y, 1)),
            lambda: tf.zeros_like(y),
        )

    return _compiled(Disturbed(looked_up))


class Dropouts(keras.Model):
    """Has a seed generator in each of its layers."""

    def __init__(self):
        super().__init__()
        self.drops = {name: keras.layers.Dropout(0.5) for name in _turned(["a", "b", "c"])}
        self.out = keras.layers.Dense(1)

    def call(self, x, training=False):
        for name in sorted(self.drops):
            x = self.drops[name](x, training=training)
        return self.out(x)


def generators_in_another_order_each_time():
    return _compiled(Dropouts())


def same_each_time():
    """Tables and large constants that come out alike, and a variable that only a step reads."""
    lookup = keras.layers.StringLookup(vocabulary=["0.0", "1.0", "2.0", "3.0", "4.0"])
    drawn = tf.constant(np.random.default_rng(1).normal(size=200).astype("float32"))

    def disturb(y):
        _COUNTER.assign_add(1)
        return tf.reduce_sum(drawn) * tf.cast(lookup(tf.strings.as_string(y, 1)), tf.float32)

    return _compiled(Disturbed(disturb))


def variable_that_cannot_be_read():
    handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="own")
    tf.raw_ops.AssignVariableOp(resource=handle, value=1.0)

    def read(y):
        return tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32), [])

    return _compiled(Disturbed(read))
