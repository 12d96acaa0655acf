"""Variables have the names of what leads to them, in whatever order a program sets it."""

from typing import Any

import keras
import pytest
import tensorflow as tf
from rtj_trainer.own_loop.handed import Handed

pytestmark = pytest.mark.unit


class Unit(keras.layers.Layer):  # type: ignore[misc]
    """Keeps its parts in attributes, lists and dicts, set in an order that is given."""

    def __init__(self, order: int) -> None:
        super().__init__()
        parts = {
            "first": keras.layers.Dense(2),
            "_second": keras.layers.Dense(2),
            "_many": [keras.layers.Dense(2)],
            "more": {"b": keras.layers.Dense(2), "a": keras.layers.Dense(2), (1, 2): object()},
            "wrapped": keras.layers.TimeDistributed(keras.layers.Dense(2)),
            "generator": keras.random.SeedGenerator(1),
            "other_generator": keras.random.SeedGenerator(2),
            "mean": keras.metrics.Mean(),
            "_scale": self.add_weight(shape=(2,)),
            "offset": self.add_weight(shape=(2,)),
        }
        for name in list(parts)[::order]:
            setattr(self, name, parts[name])

    def build(self, shape: Any) -> None:
        for layer in (self.first, self._second, *self._many, self.more["a"], self.more["b"]):
            layer.build((None, 2))
        self.wrapped.build((None, 1, 2))


EXPECTED = {
    *(f"unit.{layer}.{own}" for layer in ("first", "_second") for own in ("kernel", "bias")),
    *(f"unit._many[0].{own}" for own in ("kernel", "bias")),
    *(f"unit.more['{key}'].{own}" for key in "ab" for own in ("kernel", "bias")),
    *(f"unit.wrapped.layer.{own}" for own in ("kernel", "bias")),
    *("unit.generator.state", "unit.other_generator.state"),
    *("unit._scale", "unit.offset"),
}


@pytest.mark.parametrize("order", [1, -1])
def test_an_object_of_keras(order: int) -> None:
    unit = Unit(order)
    unit.build((None, 2))
    assert set(names_of(unit=unit).values()) == EXPECTED


def test_a_model_of_a_graph_has_its_layers_in_its_order_without_the_numbers_of_keras() -> None:
    found = []
    for _ in range(2):
        given = keras.Input((3,))
        named, unnamed = keras.layers.Dense(3, name="dense_b"), keras.layers.Dense(3)
        model = keras.Model(given, keras.layers.Add()([unnamed(given), named(given)]))
        found.append(names_of(model=model))
    assert found[0] == found[1]
    assert [*found[0].values()][::2] == ["model[1:dense].kernel", "model[2:dense_b].kernel"]


def test_what_is_handed_over_by_itself_and_what_an_optimizer_trains() -> None:
    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.b, self.a = tf.Variable(1.0), [tf.Variable(2.0)]

    weight, optimizer = keras.Variable([1.0]), keras.optimizers.SGD()
    optimizer.build([weight])
    assert names_of(optimizer=optimizer, weight=weight, module=Module()) == {
        "own.module/0": "module.a[0]",
        "own.module/1": "module.b",
        "own.weight/0": "weight",
        "trained by optimizer/0": "weight",
    }


def names_of(**objects: Any) -> dict[str, str]:
    handed = Handed()
    for name, value in objects.items():
        handed.add(name, value)
    return handed.names()
