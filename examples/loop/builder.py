"""A training loop of your own: two networks and two optimizers that train against each other.

The generator learns to make points on a circle, the critic to tell them from the real ones.
"""

import logging

import keras
import tensorflow as tf
from rtj_trainer.data import Tagged, indexed

log = logging.getLogger(__name__)


def build_dataset(size: int = 1000, batch_size: int = 50) -> tf.data.Dataset:
    """Return one epoch of points on a circle, each with its number as its id.

    Args:
        size: Number of points.
        batch_size: Points per batch.
    """

    def batch(numbers: tf.Tensor) -> Tagged:
        angles = tf.cast(numbers, tf.float32) * 2 * 3.14159265 / size
        return Tagged(numbers, tf.stack([tf.cos(angles), tf.sin(angles)], axis=1))

    return indexed(size, batch_size).map(batch).prefetch(2)


class Best:
    """The smallest distance so far; the session keeps it in each commit by the two methods."""

    def __init__(self) -> None:
        self.distance, self.epoch = float("inf"), -1

    def get_state(self) -> list:
        """Return what the next step depends on."""
        return [self.distance, self.epoch]

    def set_state(self, state: list) -> None:
        """Go back to what `get_state` returned."""
        self.distance, self.epoch = state


def train(session, latent_size: int = 4, units: int = 32) -> None:
    """Train both networks to the end of the job.

    Args:
        session: Gives the batches, and commits between them.
        latent_size: Random numbers that a point is made of.
        units: Width of the hidden layers.
    """
    generator = network(latent_size, units, 2)
    critic = network(2, units, 1)
    optimizers = [keras.optimizers.Adam(0.002, beta_1=0.5) for _ in range(2)]
    for optimizer, model in zip(optimizers, (generator, critic), strict=True):
        optimizer.build(model.trainable_variables)
    noise = tf.random.Generator.from_seed(1)
    distance, best = keras.metrics.Mean(), Best()
    session.track(
        generator=generator,
        critic=critic,
        optimizers=optimizers,
        noise=noise,
        distance=distance,
        best=best,
    )

    @tf.function(reduce_retracing=True)
    def step(real: tf.Tensor) -> None:
        random = noise.normal([tf.shape(real)[0], latent_size])
        with tf.GradientTape(persistent=True) as tape:
            made = generator(random, training=True)
            of_real, of_made = critic(real, training=True), critic(made, training=True)
            fooled = tf.reduce_mean(tf.nn.softplus(-of_made))
            caught = tf.reduce_mean(tf.nn.softplus(of_made) + tf.nn.softplus(-of_real))
        for optimizer, model, loss in zip(
            optimizers, (generator, critic), (fooled, caught), strict=True
        ):
            found = model.trainable_variables
            optimizer.apply(tape.gradient(loss, found), found)
        distance.update_state(tf.abs(tf.norm(made, axis=1) - 1))

    for real in session.steps():
        step(real)
        if session.ends_epoch:
            value = float(distance.result())
            if value < best.distance:
                best.distance, best.epoch = value, session.epoch
            distance.reset_state()
    log.info("nearest to the circle in epoch %d: %.3f away", best.epoch, best.distance)


def network(inputs: int, units: int, outputs: int) -> keras.Model:
    """Return a network of one hidden layer, built."""
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(outputs),
        ]
    )
