"""Datasets that resume in different ways, and a model whose every kind of state matters."""

import keras
import tensorflow as tf
from rtj_trainer.data import Tagged, indexed


@tf.autograph.experimental.do_not_convert  # Nothing of it is to convert; that takes 40 ms.
def _features(numbers):
    value = tf.cast(numbers, tf.float32)
    x = tf.stack([tf.sin(value), tf.cos(value / 3.0), value / 100.0], axis=-1)
    return Tagged(numbers, (x, value % 5.0))


def shuffled(size: int = 100, batch_size: int = 8):
    """Unseeded shuffles at two levels, a cache, parallel maps: all with iterator state."""
    numbers = tf.data.Dataset.range(size).cache().shuffle(30)
    return numbers.map(_features, num_parallel_calls=2).batch(batch_size).prefetch(2)


def uncounted():
    """As `shuffled`, but only reading can tell how many batches there are."""
    numbers = tf.data.Dataset.range(200).shuffle(30).filter(lambda n: n % 2 == 0)
    return numbers.map(_features).batch(8)


def by_index(size: int = 100, batch_size: int = 8):
    return indexed(size, batch_size).map(_features, num_parallel_calls=2).prefetch(2)


def csv(path: str, batch_size: int = 8):
    """The line that most tutorials have."""
    return (
        tf.data.experimental.make_csv_dataset(
            path, batch_size=batch_size, num_epochs=1, header=True, label_name="y", shuffle=True
        )
        .map(lambda x, y: (tf.stack(list(x.values()), axis=-1), y))
        .prefetch(1)
    )


class Noise(keras.layers.Layer):
    """Draws from Keras's global generator, which no layer owns."""

    def call(self, inputs):
        return inputs + 0.01 * keras.random.normal(keras.ops.shape(inputs))


def build_model(units: int = 8, jit_compile: bool = False):
    """Has each kind of state once or twice: each weight that is trained costs 4% of an attempt."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            Noise(),
            keras.layers.Dense(units, "relu", use_bias=False),
            keras.layers.BatchNormalization(center=False, scale=False),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1, use_bias=False),
        ]
    )
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)),
        "mse",
        metrics=["mae"],
        jit_compile=jit_compile,
    )
    return model


def small_model(units: int = 1):
    """For jobs that prove nothing of their model: an attempt takes two thirds of the time."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile("sgd", "mse", jit_compile=False)
    return model
