"""Puts every random generator into a known state, and reads and writes those states.

Unseeded shuffles, weight initialisers and dropout layers take their seeds from these generators
when they are created, so the seed is set immediately before each call of the builder, in every
process.
"""

import random
from typing import Any

import numpy as np


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, TensorFlow and Keras, its global SeedGenerator included."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))


def host_generators() -> dict[str, Any]:
    """Return the states of Python's and NumPy's global generators as JSON."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, cached],
    }


def set_host_generators(states: dict[str, Any]) -> None:
    """Put Python's and NumPy's global generators into states from `host_generators`."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
