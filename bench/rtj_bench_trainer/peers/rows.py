"""The data that everybody resumes in: a million rows, and how each peer is fed with them."""

import hashlib
from pathlib import Path

import numpy as np

EXAMPLES = 1_000_000
VALUES = 64
BATCH = 100
BATCHES = EXAMPLES // BATCH
SEED = 7
FILE = "rows.npy"


def make(folder: Path) -> None:
    """Write the rows, 256 MB of float32, as one file."""
    rows = np.random.default_rng(SEED).random((EXAMPLES, VALUES), np.float32)
    np.save(folder / FILE, rows)


def load(folder: Path) -> np.ndarray:
    """Return the rows, mapped into memory: shape [EXAMPLES, VALUES]."""
    rows: np.ndarray = np.load(folder / FILE, mmap_mode="r")
    return rows


def digest(batch: object) -> str:
    """Return a digest of a batch, so that a peer that resumes at another one is found out."""
    return hashlib.sha256(np.ascontiguousarray(batch, np.float32).tobytes()).hexdigest()
