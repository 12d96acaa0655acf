"""The same task with the one line that most articles have: `make_csv_dataset` with a header.

tf.data saves the iterator of such a reader without an error and restores it wrongly. So the trainer
does not save it: it counts batches, and after a restart it reads the file again and skips what was
seen. That is exact, but a restart costs as much reading as the job did; builder.py restarts at
once.
"""

import keras
import tensorflow as tf

NUMBERS = ("month", "day", "hour", "minute", "dep_delay", "distance")
TARGET = "arr_delay"


def build_dataset(path: str, batch_size: int = 128) -> tf.data.Dataset:
    """Return one epoch of batches; flights without an arrival delay count as on time.

    Args:
        path: The CSV file, with its header.
        batch_size: Flights per batch.
    """
    flights = tf.data.experimental.make_csv_dataset(
        path,
        batch_size=batch_size,
        num_epochs=1,
        header=True,
        select_columns=[*NUMBERS, TARGET],
        column_defaults=[0.0] * (len(NUMBERS) + 1),
        na_value="NA",
        label_name=TARGET,
    )

    def prepare(columns: dict[str, tf.Tensor], minutes_late: tf.Tensor) -> tuple:
        return tf.stack([columns[name] for name in NUMBERS], axis=1), minutes_late / 60

    return flights.map(prepare).cache().prefetch(1)


def build_model(units: int = 64) -> keras.Model:
    """Return a small network.

    Args:
        units: Width of the hidden layer.
    """
    model = keras.Sequential(
        [
            keras.Input((len(NUMBERS),)),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3), loss="huber", metrics=["mae"], jit_compile=False)
    return model
