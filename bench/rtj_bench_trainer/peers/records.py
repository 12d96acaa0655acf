"""The rows as users of tf.data have them: TFRecord files, shuffled through a buffer."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_bench_trainer.peers import rows

BUFFER = 10_000
_FILES = 4


def dataset(folder: str) -> Any:
    """Return an epoch of batches; the files are written by the first call."""
    paths = [Path(folder) / f"rows-{number}.tfrecord" for number in range(_FILES)]
    if not paths[-1].exists():
        _write(paths, Path(folder))
    records = tf.data.TFRecordDataset([str(path) for path in paths])
    batches = records.shuffle(BUFFER, seed=rows.SEED).batch(rows.BATCH, drop_remainder=True)
    decoded = batches.map(lambda batch: tf.io.decode_raw(batch, tf.float32))
    return decoded.prefetch(tf.data.AUTOTUNE)


class Reading:
    """Reads the batches one after the other."""

    def __init__(self, folder: str) -> None:
        self.dataset = dataset(folder)
        self.iterator: Any = None

    def next(self) -> np.ndarray:
        """Return the next batch."""
        self.iterator = self.iterator or iter(self.dataset)
        return np.asarray(next(self.iterator))

    def advance(self, batches: int) -> None:
        """Take so many more batches."""
        for _ in range(batches):
            self.next()


def _write(paths: list[Path], folder: Path) -> None:
    values = rows.load(folder)
    share = len(values) // len(paths)
    for number, path in enumerate(paths):
        unfinished = path.with_suffix(".unfinished")
        with tf.io.TFRecordWriter(str(unfinished)) as writer:
            for row in values[number * share : (number + 1) * share]:
                writer.write(row.tobytes())
        unfinished.rename(path)
