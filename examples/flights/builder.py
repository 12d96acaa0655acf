"""Predicts how late a flight arrives, from all flights that left New York City in 2013.

The rows are read once into memory; the batches are then made by number, so a restart goes on at any
row at once. Each batch carries the row numbers of its flights, so anyone can check afterwards that
every flight was used exactly once per epoch.
"""

import functools
import math
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rtj_trainer.data import Tagged, indexed

NUMBERS = ("month", "day", "hour", "minute", "dep_delay", "distance")
CATEGORIES = ("carrier", "origin", "dest")
TARGET = "arr_delay"
BUCKETS = 128  # more than there are carriers, origins or destinations


def build_dataset(path: str, batch_size: int = 128) -> tf.data.Dataset:
    """Return one epoch of batches.

    Flights without an arrival delay (cancelled or diverted, "NA") are left out; the others keep the
    number of their row in the file, counted from 0 after the header.

    Args:
        path: The CSV file, or a ZIP archive with it.
        batch_size: Flights per batch.
    """
    rows, numbers, categories, hours_late = read_flights(path)

    def batch(places: tf.Tensor) -> Tagged:
        features = {
            "numbers": tf.gather(numbers, places),
            "categories": tf.gather(categories, places),
        }
        return Tagged(tf.gather(rows, places), (features, tf.gather(hours_late, places)))

    return indexed(len(rows), batch_size).map(batch, num_parallel_calls=2).prefetch(4)


def build_model(units: int = 128, dropout: float = 0.2) -> keras.Model:
    """Return a small network; dropout and Adam both have state that a restart must restore.

    Args:
        units: Width of the hidden layers.
        dropout: Share of units dropped in training.
    """
    numbers = keras.Input((len(NUMBERS),), name="numbers")
    categories = keras.Input((len(CATEGORIES),), dtype="int32", name="categories")
    offsets = np.arange(len(CATEGORIES), dtype=np.int32) * BUCKETS  # one table for all columns
    embedded = keras.layers.Embedding(BUCKETS * len(CATEGORIES), 8)(categories + offsets)
    x = keras.layers.Concatenate()([numbers, keras.layers.Flatten()(embedded)])
    for _ in range(2):
        x = keras.layers.Dense(units, activation="relu")(x)
        x = keras.layers.Dropout(dropout)(x)
    outputs = keras.layers.Dense(1)(x)
    model = keras.Model([numbers, categories], outputs)
    model.compile(keras.optimizers.Adam(1e-3), loss="huber", metrics=["mae"], jit_compile=False)
    return model


@functools.cache  # the trainer calls build_dataset more than once
def read_flights(path: str) -> tuple[np.ndarray, ...]:
    """Return row numbers, numbers, codes of categories, and hours late of all that arrived."""
    header, *lines = read(path).decode().splitlines()
    place = {name: number for number, name in enumerate(header.split(","))}
    kinds = dict.fromkeys((*NUMBERS, TARGET), math.nan) | dict.fromkeys(CATEGORIES, "")
    wanted = sorted(kinds, key=place.__getitem__)
    columns = tf.io.decode_csv(
        lines,
        [kinds[name] for name in wanted],
        na_value="NA",
        select_cols=[place[name] for name in wanted],
    )
    table = {name: column.numpy() for name, column in zip(wanted, columns, strict=True)}
    rows = np.flatnonzero(~np.isnan(table[TARGET]))
    numbers = np.stack([table[name][rows] for name in NUMBERS], axis=1)
    categories = np.stack([as_codes(table[name][rows]) for name in CATEGORIES], axis=1)
    scaled = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    return rows, scaled, categories, table[TARGET][rows] / 60


def read(path: str) -> bytes:
    """Return the content of a file, or of the only file in a ZIP archive."""
    if not zipfile.is_zipfile(path):
        return Path(path).read_bytes()
    archive = zipfile.ZipFile(path)
    return archive.read(archive.namelist()[0])


def as_codes(values: np.ndarray) -> np.ndarray:
    """Return a number below BUCKETS for each distinct value, in alphabetical order."""
    distinct, codes = np.unique(values.astype(bytes), return_inverse=True)
    if len(distinct) > BUCKETS:
        raise ValueError(f"{len(distinct)} distinct values, room for {BUCKETS}")
    return codes.astype(np.int32)
