"""The files that the pipelines of the table read."""

import gzip
import sqlite3
import struct
import zlib
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter


def write_files(folder: Path) -> None:
    """Write every file but those that only TensorFlow can write."""
    rows = [f"{n},{n * n / 2},word{n % 7}" for n in range(23)]
    (folder / "table.csv").write_text("\n".join(["a,b,c", *rows]) + "\n")
    (folder / "bare.csv").write_text("\n".join(rows) + "\n")
    (folder / "bare.csv.gz").write_bytes(gzip.compress((folder / "bare.csv").read_bytes()))
    for number in range(4):
        lines = "".join(f"file {number} line {line}\n" for line in range(5 + number))
        (folder / f"lines-{number}.txt").write_text(lines)
    (folder / "lines.txt.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    (folder / "words.txt").write_text("".join(f"word{n}\n" for n in range(5)))
    (folder / "fixed.bin").write_bytes(b"hd" + bytes(range(4 * 25)))
    np.save(folder / "numbers.npy", np.arange(46.0).reshape(23, 2))
    np.savez(folder / "both.npz", x=np.arange(23.0), word=np.array([f"word{n}" for n in range(23)]))
    quoted = "".join(f'{n},"line one\nline ""two"" of {n}"\r\n' for n in range(15))
    (folder / "quoted.csv").write_text("n,text\r\n" + quoted, newline="")
    for size in (1, 4):
        _write_groups(folder / f"groups-{size}", size)
    (folder / "groups-1.gz").write_bytes(gzip.compress((folder / "groups-1").read_bytes()))
    _write_database(folder / "numbers.db")
    for kind in ("cat", "dog"):
        _write_class(folder, kind)


def _write_groups(path: Path, size: int) -> None:
    writer = ArrayRecordWriter(str(path), f"group_size:{size}")
    for n in range(10 * size, 10 * size + 11):
        writer.write(np.array([n, n * n], np.int32).tobytes())
    writer.close()


def _write_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE numbers (a INTEGER, b INTEGER)")
        connection.executemany("INSERT INTO numbers VALUES (?, ?)", [(n, n * n) for n in range(20)])
    connection.close()


def _write_class(folder: Path, kind: str) -> None:
    for name in ("images", "texts"):
        (folder / name / kind).mkdir(parents=True)
    for number in range(5):
        (folder / "images" / kind / f"{number}.png").write_bytes(_png(40 * number + len(kind)))
        (folder / "texts" / kind / f"{number}.txt").write_text(f"{kind} {number}")


def _png(grey: int) -> bytes:
    """Return an image of 4 x 4 pixels of one grey."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([grey % 256]) * 4) * 4
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def write_tensorflow_files(folder: Path) -> None:
    """Write the files that TensorFlow writes, once it is imported."""
    import tensorflow as tf

    for number in range(2):
        records = []
        for n in range(9 + number):
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=[n, number]))
            features = tf.train.Features(feature={"x": feature})
            records.append(tf.train.Example(features=features).SerializeToString())
        for name, options in ((f"records-{number}", ""), (f"records-{number}.gz", "GZIP")):
            with tf.io.TFRecordWriter(str(folder / name), options) as writer:
                for record in records:
                    writer.write(record)
    tf.data.Dataset.range(17).save(str(folder / "saved"))
