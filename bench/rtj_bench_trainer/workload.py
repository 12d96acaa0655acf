"""The job that is measured: a builder of the trainer, and of every peer's loop.

XLA is left out, and operations are deterministic everywhere, as the trainer wants it: the steps are
the same, so what differs is the loop and its commits.
"""

from typing import Any

import keras
import tensorflow as tf
from rtj_trainer.data import Tagged, indexed

EXAMPLES = 1 << 30


def build_dataset(
    width: int, batch_size: int, examples: int = EXAMPLES, tagged: bool = True
) -> Any:
    """Return batches that cost little to make.

    Args:
        width: Values of an example.
        batch_size: Examples per batch.
        examples: In an epoch.
        tagged: Whether the ledger gets the ids of the examples; `fit` takes none.
    """

    def batch(places: Any) -> Any:
        values = tf.cast(places % 97, tf.float32)[:, None] / 97
        data = (values * tf.ones([1, width]), values)
        return Tagged(places, data) if tagged else data

    return indexed(examples, batch_size, drop_remainder=True).map(batch).prefetch(2)


def build_model(width: int, layers: int) -> Any:
    """Return dense layers, with Adam: three float32 for each weight."""
    dense = [keras.layers.Dense(width, activation="relu") for _ in range(layers)]
    model = keras.Sequential([keras.Input([width]), *dense, keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse", jit_compile=False)
    return model
