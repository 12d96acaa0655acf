"""Where the chunks of a Riegeli file are, and what is in them, without reading their data.

A chunk (doc/riegeli_records_file_format.md of google/riegeli) begins with 40 bytes: a hash of the
other 32, the size of its data, a hash of its data, its type (one byte) and the number of its
records (seven), and their size when unpacked; all little endian. At every multiple of 64 KiB a
block header of 24 bytes interrupts whatever is there, a chunk's header too.
"""

from pathlib import Path

import numpy as np

_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 1 << 16, 24, 40
_USABLE = _BLOCK - _BLOCK_HEADER
_SIGNATURE = bytes.fromhex(
    "83af70d10d884a3f0000000000000000400000000000000091bac23c9287e1a9"
    "0000000000000000e19f13c0e9b1c37273000000000000000000000000000000"
)


def chunk_headers(path: Path) -> np.ndarray:
    """Return the headers of all chunks of a file, shape [chunks, 5], uint64.

    Raises:
        ValueError: the file is cut or damaged, or no Riegeli file.
    """
    size, headers, begin = path.stat().st_size, bytearray(), 0
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            raise ValueError("it does not begin as one")
        while begin < size:
            file.seek(begin)
            read = file.read(_end(begin, _CHUNK_HEADER) - begin)
            block = -begin % _BLOCK
            header = read[:block] + read[block + _BLOCK_HEADER :]
            headers += header
            begin = _chunk_end(begin, header)
    if begin != size:
        raise ValueError(f"its last chunk should end at byte {begin}, but the file ends at {size}")
    return np.frombuffer(bytes(headers), "<u8").reshape(-1, _CHUNK_HEADER // 8)


def _chunk_end(begin: int, header: bytes) -> int:
    data_size = int.from_bytes(header[8:16], "little")
    records = int.from_bytes(header[25:32], "little")
    # It has at least as many bytes as records, and ends neither within nor after a block header.
    least = begin + records
    least += max(0, -least % _BLOCK - _USABLE + 1)
    return max(_end(begin, _CHUNK_HEADER + data_size), least)


def _end(begin: int, size: int) -> int:
    """Return where `size` bytes from `begin` end, with the block headers among them."""
    headers = (size + (begin + _USABLE - 1) % _BLOCK) // _USABLE
    return begin + size + headers * _BLOCK_HEADER
