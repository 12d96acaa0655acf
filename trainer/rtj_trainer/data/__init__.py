"""What a builder may start from, so that its position in the data is a number.

A source is a sequence of examples that can be read at any place, in any order: records of files,
rows, arrays. `batches` makes a `tf.data.Dataset` of one, in an order that is a function of the
job's seed and the epoch. So a restart goes on at any step at once, with nothing saved, and what
follows is ordinary TensorFlow. `docs/data.md` has an example of each.
"""

from rtj_trainer.data.arrayrecord import arrayrecords
from rtj_trainer.data.arrays import arrays
from rtj_trainer.data.csv_file import csv_rows
from rtj_trainer.data.filtering import filtered
from rtj_trainer.data.indexing import (
    IndexedContext,
    IndexedSource,
    Tagged,
    indexed,
    indexed_context,
)
from rtj_trainer.data.mixing import mixed
from rtj_trainer.data.objects import objects
from rtj_trainer.data.source import batches
from rtj_trainer.data.tfrecord import tfrecords

__all__ = [
    "IndexedContext",
    "IndexedSource",
    "Tagged",
    "arrayrecords",
    "arrays",
    "batches",
    "csv_rows",
    "filtered",
    "indexed",
    "indexed_context",
    "mixed",
    "objects",
    "tfrecords",
]
