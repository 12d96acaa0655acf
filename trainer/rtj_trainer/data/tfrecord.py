"""TFRecord files as a source.

The format (tensorflow/core/lib/io/record_writer.h) is, for each record: its length (uint64), the
masked CRC32C of those 8 bytes, the data, and the masked CRC32C of the data; all little endian. So
16 bytes of each record tell where all are, and, by the checksums of the data, what is in them.
"""

import hashlib
from pathlib import Path

import numpy as np

from rtj_trainer.data.records import Paths, Stretches, expand, refuse_compressed
from rtj_trainer.data.store import Finding

_HEADER, _FOOTER = 12, 4
_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8


def tfrecords(paths: Paths) -> Stretches:
    """Return the records of TFRecord files as a source of byte strings.

    Follow it with `tf.io.parse_example`, as `batches(tfrecords(…), 64, decode=…)` does. At the
    first start 16 bytes of each record are read to find all of them.

    Args:
        paths: One path, a pattern such as `/data/train-*`, or several.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is damaged, or no TFRecord file.
        PermanentError: `PipelineNotResumable`: a file is compressed.
    """
    return Stretches(expand(paths), "tfrecord", _scan)


def _scan(path: Path) -> Finding:
    try:
        return _read_heads(path)
    except ValueError:
        # Only now: a length may begin with the same bytes as a compressed file does.
        refuse_compressed(path, "write the records again with compression_type=None")
        raise


def _read_heads(path: Path) -> Finding:
    size = path.stat().st_size
    heads, position = bytearray(), 0
    with path.open("rb") as file:
        while position < size:
            head = file.read(_HEADER)
            length = int.from_bytes(head[:8], "little")
            if position + _HEADER + length + _FOOTER > size:
                last = head + bytes(_FOOTER) if len(head) == _HEADER else b""
                _located(path, heads + last)  # if a length is damaged, that is the reason
                raise ValueError(
                    f"{path} ends within the record at byte {position}; write the file again, whole"
                )
            file.seek(length, 1)
            heads += head + file.read(_FOOTER)
            position += _HEADER + length + _FOOTER
    return Finding(hashlib.sha256(heads).hexdigest(), _located(path, heads))


def _located(path: Path, heads: bytearray) -> np.ndarray:
    """Return offset and length of each record, shape [2, n].

    Args:
        path: For the message.
        heads: The 16 bytes of each record that are not its data.

    Raises:
        ValueError: a length has a wrong checksum.
    """
    blocks = np.frombuffer(bytes(heads), np.uint8).reshape(-1, _HEADER + _FOOTER)
    lengths = blocks[:, :8].copy().view("<u8")[:, 0].astype(np.int64)
    offsets = np.cumsum(lengths + _HEADER + _FOOTER) - lengths - _FOOTER
    checksums = blocks[:, 8:12].copy().view("<u4")[:, 0]
    wrong = np.flatnonzero(checksums != _masked_crc32c(blocks[:, :8]))
    if len(wrong):
        at = int(offsets[wrong[0]]) - _HEADER
        raise ValueError(
            f"{path}: wrong checksum for the record length at byte {at}; the file is damaged, or "
            "not a TFRecord file; write it again"
        )
    return np.stack([offsets, lengths])


def _masked_crc32c(rows: np.ndarray) -> np.ndarray:
    """Return the masked CRC32C of each row of bytes, shape [n]."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    crc = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in rows.T:
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc ^= np.uint32(0xFFFFFFFF)
    return ((crc >> 15) | (crc << 17)) + np.uint32(_MASK_DELTA)
