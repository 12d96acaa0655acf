"""Puts every random generator into a known state, and reads and writes those states.

Unseeded shuffles, weight initialisers and dropout layers take their seeds from these generators
when they are created, so the seed is set immediately before each call of the builder, in every
process.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, TensorFlow and Keras, its global SeedGenerator included."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))


def keras_generator() -> Any:
    """Return the SeedGenerator that `keras.random` draws from where it is given no seed."""
    from keras.src.random.seed_generator import global_seed_generator

    return global_seed_generator()


def host_generators() -> dict[str, Any]:
    """Return the states of the generators outside of variables, as JSON.

    They are the global ones of Python and NumPy, and the one that gives `tf.random.*` its seeds
    where a callback calls it.
    """
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": _as_json(random.getstate()),
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, cached],
        "tensorflow": _as_json(_tensorflow_seeds().getstate()),
    }


def set_host_generators(states: dict[str, Any]) -> None:
    """Put the generators into states from `host_generators`."""
    random.setstate(_from_json(states["python"]))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    _tensorflow_seeds().setstate(_from_json(states["tensorflow"]))


@dataclass(frozen=True)
class Chosen:
    """What a program may choose for all later draws, and no commit holds."""

    seed: Any
    """Of TensorFlow."""
    generator: Any
    """The global one of TensorFlow."""
    of_keras: tuple[Any, ...]
    """Its seed, and its global generator."""

    @classmethod
    def now(cls) -> "Chosen":
        """Return what is chosen now."""
        import tensorflow as tf
        from keras.src.backend.common import global_state

        keras_generator()
        of_keras = tuple(global_state.get_global_attribute(name) for name in _OF_KERAS)
        return cls(_context()._seed, tf.random.get_global_generator(), of_keras)

    def put_back(self) -> None:
        """Choose it again."""
        import tensorflow as tf
        from keras.src.backend.common import global_state

        _context()._seed = self.seed
        tf.random.set_global_generator(self.generator)
        for name, value in zip(_OF_KERAS, self.of_keras, strict=True):
            global_state.set_global_attribute(name, value)


_OF_KERAS = ("global_random_seed", "global_seed_generator")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Give every generator outside of variables its state back at the end.

    A builder may be called meanwhile; it seeds everything, and makes new global generators.
    """
    states, chosen = host_generators(), Chosen.now()
    try:
        yield
    finally:
        chosen.put_back()
        set_host_generators(states)


def _context() -> Any:
    from tensorflow.python.eager import context

    return context.context()


def _tensorflow_seeds() -> random.Random:
    generator: random.Random = _context()._rng
    return generator


def _as_json(state: Any) -> list[Any]:
    version, internal, gauss = state
    return [version, list(internal), gauss]


def _from_json(state: list[Any]) -> tuple[Any, ...]:
    version, internal, gauss = state
    return version, tuple(internal), gauss
